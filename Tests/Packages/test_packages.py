# SPDX-License-Identifier: Apache-2.0
"""The package files themselves: what lintian, systemd and the ELF headers say of them, and that two builds are one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from machine import ROOT, WORK

DIST = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build" / "dist"))
LIGHT = os.environ | {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
DEBIANS_OWN = {
    "libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
    "libcurl.so.4", "libsqlite3.so.0", "libcrypto.so.3", "libyaml-0.so.2", "libz.so.1",
}
PACKAGES = {
    "milepost", "milepost-plugin-pipedrive", "milepost-plugin-hubspot", "milepost-plugin-custom-hook", "milepost-sandbox",
    "milepost-dev",
}


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def field(file: Path, name: str) -> str:
    return said("dpkg-deb", "-f", str(file), name).strip()


@pytest.fixture(scope="session")
def trees(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trees")
    for name in PACKAGES:
        subprocess.run(["dpkg-deb", "-x", str(packages[name]), str(folder / name)], check=True)
    return {name: folder / name for name in PACKAGES}


def test_every_package_is_built(packages: dict[str, Path]) -> None:
    """EXT-14"""
    assert PACKAGES <= set(packages), sorted(packages)
    assert {f"{name}-dbgsym" for name in PACKAGES} <= set(packages), sorted(packages)


def test_lintian_has_nothing_to_say(packages: dict[str, Path]) -> None:
    """EXT-14: no error and no warning, and every override has its reason above it"""
    changes = next(packages["milepost"].parent.glob("*.changes"))
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", str(changes)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for overrides in (ROOT / "packaging/debian").glob("*.lintian-overrides"):
        lines = overrides.read_text().splitlines()
        assert lines[0].startswith("#"), f"{overrides}: an override without a reason"


def test_the_abi_that_is_provided_is_the_headers(packages: dict[str, Path]) -> None:
    """EXT-14"""
    text = (ROOT / "include/milepost/types.h").read_text()
    minor = re.search(r"^#define MP_ABI_MINOR (\d+)u$", text, re.M).group(1)
    assert field(packages["milepost"], "Provides") == f"milepost-plugin-abi-1 (= 1.{minor})"
    for name in PACKAGES:
        if name.startswith("milepost-plugin-"):
            depends = field(packages[name], "Depends")
            assert re.search(r"milepost-plugin-abi-1 \(>= 1\.\d+\)", depends), depends
            assert not re.search(r"(^|, )milepost( |,|$)", depends), "a plugin depends on the ABI, not on the daemon's version"


def test_programs_need_debians_own_libraries_only(trees: dict[str, Path]) -> None:
    """EXT-14: the Swift runtime is inside; nothing is searched where this was built"""
    seen = 0
    for tree in trees.values():
        for path in tree.rglob("*"):
            if not path.is_file() or path.is_symlink() or path.open("rb").read(4) != b"\x7fELF":
                continue
            seen += 1
            dynamic = said("readelf", "-dW", str(path))
            needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
            assert needed <= DEBIANS_OWN, (path, needed - DEBIANS_OWN)
            paths = re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic)
            assert paths in ([], ["$ORIGIN"]), (path, paths)
            assert "BIND_NOW" in dynamic or re.search(r"FLAGS_1.*NOW", dynamic), f"{path} is not bound at start"
            assert "GNU_RELRO" in said("readelf", "-lW", str(path)), path
    assert seen == 8, seen


def test_only_programs_that_need_all_of_foundation_carry_icu(trees: dict[str, Path]) -> None:
    """EXT-14: what keeps the command line small"""
    assert b"icudt" in (trees["milepost"] / "usr/sbin/milepostd").read_bytes(), "this test does not know ICU any more"
    for file in (trees["milepost"] / "usr/bin/milepost", trees["milepost-dev"] / "usr/lib/milepost/milepost-plugin-check"):
        assert b"icudt" not in file.read_bytes(), f"{file.name} imports Foundation somewhere"
        assert file.stat().st_size < 24 << 20, (file, file.stat().st_size)


def test_plugins_are_small_and_bring_two_files_and_a_switch_that_is_off(packages: dict[str, Path], trees: dict[str, Path]) -> None:
    """EXT-14: no maintainer scripts of a package's own"""
    for name, tree in trees.items():
        if not name.startswith("milepost-plugin-"):
            continue
        plugin = name.removeprefix("milepost-plugin-")
        assert packages[name].stat().st_size < 6 << 20, name
        files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
        ours = {file for file in files if not file.startswith("usr/share/doc/")}
        assert ours == {f"etc/milepost/conf.d/{plugin}.yaml", f"usr/lib/milepost/plugins/{plugin}.so",
                        f"usr/lib/milepost/plugins/{plugin}.json"}, ours
        assert "enabled: false" in (tree / f"etc/milepost/conf.d/{plugin}.yaml").read_text()
        control = said("dpkg-deb", "-I", str(packages[name]))
        assert not re.search(r"\b(preinst|postinst|prerm|postrm|triggers)\b", control), control


def test_the_unit_is_right_and_tight(trees: dict[str, Path], tmp_path: Path) -> None:
    """EXT-14: at most 1.5; what is left open is named in the unit"""
    unit = next(trees["milepost"].rglob("milepost.service"))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)], capture_output=True, text=True)
    score = re.search(r"exposure level for milepost.service: ([\d.]+)", judged.stdout)
    assert judged.returncode == 0 and score and float(score.group(1)) <= 1.5, judged.stdout[-600:] + judged.stderr
    open_ends = [re.split(r"[=:]", line.split()[1])[0] for line in judged.stdout.splitlines() if line.startswith("✗")]
    text = unit.read_text()
    for name in open_ends:
        if name != "DeviceAllow":  # PrivateDevices leaves the clock's device to read, which ProtectClock asks for
            assert re.search(rf"\b{name.removesuffix('/RootImage')}", text), f"{name} is open and not explained"
    # Against programs that are there, so that verify judges the unit and not this machine.
    there = tmp_path / "milepost.service"
    there.write_text(re.sub(r"^(Exec\w+)=/usr/\S+", r"\1=/bin/true", text, flags=re.M))
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(there)], capture_output=True, text=True)
    ours = [line for line in verified.stderr.splitlines() if "milepost" in line]
    assert verified.returncode == 0 and not ours, verified.stderr


def test_every_command_has_a_manual_page_and_completion(trees: dict[str, Path]) -> None:
    tree = trees["milepost"]
    pages = {path.name for path in (tree / "usr/share/man").rglob("*.gz")}
    for name in ("milepost.1.gz", "milepostd.8.gz", "milepost.yaml.5.gz", "milepost-plugin.7.gz", "milepost-connect.1.gz",
                 "milepost-config-check.1.gz", "milepost-restore.1.gz", "milepost-status.1.gz"):
        assert name in pages, sorted(pages)
    for file in ("bash-completion/completions/milepost", "zsh/vendor-completions/_milepost", "fish/vendor_completions.d/milepost.fish"):
        assert "deliveries" in (tree / "usr/share" / file).read_text()
    if Path("/bin/bash").exists():
        subprocess.run(["bash", "-n", str(tree / "usr/share/bash-completion/completions/milepost")], check=True)


def test_alert_rules_and_dashboard_are_installed(trees: dict[str, Path]) -> None:
    """OBS-05"""
    folder = trees["milepost"] / "usr/share/milepost/monitoring"
    assert {"milepost.rules.yml", "milepost-dashboard.json"} <= {path.name for path in folder.iterdir()}


def test_a_plugin_builds_against_the_dev_package_alone(trees: dict[str, Path], tmp_path: Path) -> None:
    """EXT-14: header, pkg-config file and example as they are installed"""
    dev = trees["milepost-dev"]
    example = dev / "usr/share/doc/milepost-dev/examples/c"
    subprocess.run(["cp", "-r", str(example), str(tmp_path / "c")], check=True)
    done = subprocess.run(["make", "-C", str(tmp_path / "c"), "all"], capture_output=True, text=True,
                          env=os.environ | {"MILEPOST_INCLUDE": str(dev / "usr/include")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "c/build/example-crm.so").exists()
    version = subprocess.run(["pkg-config", "--modversion", "milepost"], capture_output=True, text=True,
                             env=os.environ | {"PKG_CONFIG_PATH": str(dev / "usr/share/pkgconfig")})
    assert version.stdout.startswith("1."), version.stderr
    module = (dev / "usr/share/milepost/MilepostKit/Sources/CMilepostPlugin/module.modulemap").read_text()
    assert 'header "/usr/include/milepost/plugin.h"' in module


def test_the_same_binaries_twice_give_the_same_packages() -> None:
    """EXT-14: no time, user, path or order of this run gets in."""
    compare("--prebuilt", str(DIST))


@pytest.mark.timeout(5400)
def test_compiling_twice_at_two_paths_gives_the_same_packages() -> None:
    """EXT-14: the whole way from the sources, debug symbols too; a quarter of an hour where nothing else runs"""
    compare()


def compare(*arguments: str) -> None:
    done = subprocess.run(
        [str(ROOT / "packaging/compare_builds.sh"), *arguments], capture_output=True, text=True, env=LIGHT, timeout=5400)
    names = re.findall(r"^(same|DIFFERENT) .*?([\w-]+)_[^_ ]+_\w+\.deb$", done.stdout, re.MULTILINE)
    assert len(names) == 2 * len(PACKAGES), done.stdout + done.stderr
    assert done.returncode == 0 and {verdict for verdict, _ in names} == {"same"}, done.stdout + done.stderr
    print(done.stdout)
