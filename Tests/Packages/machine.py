# SPDX-License-Identifier: Apache-2.0
"""A Debian system of the tests' own: a folder made by mmdebstrap, booted with systemd by systemd-nspawn, without network
beside its loopback. Ended by its own systemd or by the process id that was started here."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".build" / "deb"

sys.path.insert(0, str(ROOT / "Tests" / "EndToEnd"))
from processes import die_with_the_tests, wait_for  # noqa: E402

# What the packages depend on, so that dpkg alone installs them; no Swift, no compiler.
BASE = "systemd,systemd-sysv,libcurl4,libsqlite3-0,libssl3,libyaml-0-2,zlib1g,libstdc++6,ca-certificates,curl,init-system-helpers"

# What Debian's test runner and the packages' own tests need besides, so that nothing is fetched while they run.
TESTBED = f"{BASE},autopkgtest,build-essential,debhelper,dpkg-dev,pkgconf,python3,procps,sudo"

# What a machine's own kernel would not refuse: nspawn knows nothing of Landlock, and locks memory for nobody.
CALLS = "--system-call-filter=@memlock landlock_create_ruleset landlock_add_rule landlock_restrict_self"


def base(name: str, packages: str) -> Path:
    """The archive of a minimal Debian 12 with some packages, made once; a new list of packages makes it anew."""
    archive = WORK / f"{name}-{hashlib.sha256(packages.encode()).hexdigest()[:8]}.tar"
    if not archive.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "bookworm", str(part)], check=True)
        part.rename(archive)
    return archive


class Machine:
    def __init__(self, folder: Path, name: str = "base", packages: str = BASE):
        self.folder, self.child, self.leader = folder, None, 0
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-C", str(folder), "-xf", str(base(name, packages))], check=True)
        # A container has no clock of its own to set and nobody to log in.
        for unit in ("systemd-timesyncd.service", "getty.target", "console-getty.service"):
            link = folder / "etc/systemd/system" / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")

    def boot(self) -> Machine:
        log = (self.folder.parent / f"{self.folder.name}.boot.log").open("ab")
        # A mount namespace of its own: nothing of the machine's own mounts is touched.
        self.child = subprocess.Popen(
            ["unshare", "--mount", "systemd-nspawn", "--quiet", "--directory", str(self.folder), "--register=no",
             "--keep-unit", "--private-network", CALLS, "--boot"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=die_with_the_tests)
        self.leader = wait_for("systemd-nspawn starts systemd", self._find_leader, 30)
        wait_for("the system has booted", lambda: self.run("systemctl is-system-running", check=False).stdout.strip()
                 in ("running", "degraded"), 90, 0.2)
        return self

    def once(self, command: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """A shell command in the system while it is not booted: no systemd, as in a chroot or a build container."""
        return subprocess.run(
            ["unshare", "--mount", "systemd-nspawn", "--quiet", "--directory", str(self.folder), "--register=no", "--keep-unit",
             "--private-network", CALLS, "--as-pid2", "--pipe", "--setenv=DEBIAN_FRONTEND=noninteractive", "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, preexec_fn=die_with_the_tests)

    def _find_leader(self) -> int | None:
        """The container's first process: the child of nspawn that is a first process in its own namespace."""
        assert self.child and self.child.poll() is None, "systemd-nspawn has ended"
        pending = [self.child.pid]
        while pending:
            pid = pending.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                pending += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except FileNotFoundError:
                continue
            numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if len(numbers) > 1 and numbers[-1] == "1":
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                return pid if name == "systemd" else None
        return None

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]

    def run(self, command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A shell command in the booted system, as its root."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            [*self._enter(), "/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=timeout,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        if check and done.returncode:
            raise AssertionError(f"{command}\nended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def network(self, command: list[str]) -> list[str]:
        """A command of this machine's, in the system's network."""
        return ["nsenter", "--target", str(self.leader), "--net", *command]

    def stop(self) -> None:
        if self.child and self.child.poll() is None:
            self.run("systemctl poweroff --no-wall", check=False)
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, 9)
                self.child.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def build_packages(version: str, name: str) -> dict[str, Path]:
    """Packages of what 'make build' made, by name. Compressed lightly: these are for testing."""
    dist = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build" / "dist"))
    folder = WORK / "packages" / name
    stamp = folder / "stamp"
    newest = max(path.stat().st_mtime for path in [*dist.rglob("*"), *(ROOT / "packaging").rglob("*")] if path.is_file())
    if not stamp.exists() or stamp.stat().st_mtime < newest:
        shutil.rmtree(folder, ignore_errors=True)
        began = time.time()
        subprocess.run(
            [str(ROOT / "packaging/make_deb.sh"), "--prebuilt", str(dist), "--version", version, str(folder)], check=True,
            stdout=subprocess.DEVNULL, env=os.environ | {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"})
        stamp.touch()
        os.utime(stamp, (began, began))
    return {path.name.split("_")[0]: path for path in sorted(folder.glob("*.deb"))}
