# SPDX-License-Identifier: Apache-2.0
"""The life of an installation, in the order in which it is lived: a booted Debian 12 without Swift, from dpkg -i to purge.
The tests build on each other; a failure makes the later ones fail, too."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from machine import ROOT, WORK, Machine, wait_for

UNIT = "milepost.service"
SANDBOX = "http://127.0.0.1:8899"


def install(machine: Machine, *files: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    place = machine.inside("/srv/packages")
    place.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, place)
    return machine.run("dpkg -i " + " ".join(f"/srv/packages/{file.name}" for file in files), check=check)


def show(machine: Machine, *names: str) -> dict[str, str]:
    text = machine.run(f"systemctl show {UNIT} " + " ".join(f"-p {name}" for name in names)).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def milepost(machine: Machine, arguments: str, stdin: str | None = None) -> dict:
    return json.loads(machine.run(f"milepost {arguments} --json", stdin=stdin).stdout)


def plugins(machine: Machine) -> dict[str, dict]:
    return {plugin["name"]: plugin for plugin in milepost(machine, "plugins")["plugins"]}


def reloads(machine: Machine) -> int:
    return machine.run(f"journalctl -u {UNIT} -o cat").stdout.count(" reloaded")


def ledger(machine: Machine, kind: str) -> list[dict]:
    answer = json.loads(machine.run(f"curl -sf '{SANDBOX}/_sandbox/ledger?only={kind}'").stdout)
    return answer[kind] if isinstance(answer, dict) else answer


def clicks(link: str, count: int) -> str:
    return "".join(json.dumps({"id": f"{link}-{n}", "ts": "2026-01-01T00:00:00Z", "link": link}) + "\n" for n in range(count))


def test_installing_makes_the_key_and_starts_nothing(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14"""
    said = install(machine, packages["milepost"], packages["milepost-plugin-pipedrive"], packages["milepost-sandbox"])
    assert "milepost init" in said.stdout, said.stdout
    key = machine.inside("/etc/milepost/credentials/kek")
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_uid == 0
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert machine.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "enabled"
    state = show(machine, "ActiveState", "ConditionResult", "Result")
    assert state["ActiveState"] == "inactive" and state["Result"] == "success", state
    assert not machine.inside("/var/lib/milepost/milepost.db").exists()
    assert "enabled: false" in machine.inside("/etc/milepost/conf.d/pipedrive.yaml").read_text()


def test_nothing_but_debians_own_libraries_is_needed(machine: Machine) -> None:
    """EXT-14: on a system that has never seen Swift"""
    assert machine.run("ls -d /opt/swift", check=False).returncode != 0
    files = "/usr/sbin/milepostd /usr/bin/milepost /usr/bin/milepost-sandbox /usr/lib/milepost/milepost-plugin-worker " \
        "/usr/lib/milepost/plugins/pipedrive.so"
    for file in files.split():
        loaded = machine.run(f"ldd {file}").stdout
        assert "not found" not in loaded and "swift" not in loaded.lower(), (file, loaded)
        for library in re.findall(r"=> (\S+)", loaded):
            owner = machine.run(f"dpkg -S $(realpath {library}) || dpkg -S {library}", check=False)
            assert owner.stdout, f"{file} needs {library}, which is no package's"


def test_from_dpkg_to_the_first_deal_takes_a_handful_of_commands_and_seconds(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14: the way of README.Debian, by script."""
    machine.run(f"systemd-run --unit=sandbox --quiet milepost-sandbox --listen {SANDBOX.removeprefix('http://')}")
    began, commands = time.monotonic(), []

    def command(text: str, stdin: str | None = None) -> str:
        commands.append(text)
        return machine.run(text, stdin=stdin).stdout

    switch = f"plugins:\n  pipedrive:\n    enabled: true\n    endpoints: {{ api: \"{SANDBOX}\" }}\n"
    command("tee /etc/milepost/conf.d/pipedrive.yaml", stdin=switch)
    command("milepost init")
    command(f"systemctl start {UNIT}")
    command("milepost connect pipedrive -w acme --token-stdin --set pipeline_id=1 --set stage_id=11", stdin="sandbox-token\n")
    command("tee /srv/clicks.jsonl", stdin=clicks("launch", 120))
    command("milepost import clicks /srv/clicks.jsonl --format milepost -w acme")
    command("milepost tick")
    seconds = time.monotonic() - began
    deals = [deal for deal in ledger(machine, "deals") if "launch" in deal["title"]]
    assert len(deals) == 1, deals
    print(f"first deal after {len(commands) + 1} commands and {seconds:.1f} s")
    assert len(commands) + 1 <= 10 and seconds < 60
    owner = machine.inside("/var/lib/milepost/milepost.db").stat().st_uid
    assert owner == int(machine.run("id -u milepost").stdout), "init left files that the daemon cannot write"


def test_the_daemon_reports_readiness_and_feeds_the_watchdog(machine: Machine) -> None:
    """EXT-14: systemd itself says so"""
    state = show(machine, "Type", "ActiveState", "SubState", "StatusText", "WatchdogUSec", "NRestarts", "WatchdogTimestampMonotonic")
    assert state["ActiveState"] == "active" and state["SubState"] == "running", state
    assert state["Type"] == "notify" and state["StatusText"] == "takes work", state
    assert state["WatchdogUSec"] == "30s" and state["NRestarts"] == "0", state
    first = int(state["WatchdogTimestampMonotonic"])
    assert first > 0
    wait_for("the watchdog is fed again",
             lambda: int(show(machine, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) > first, 40, 1)


def test_the_worker_is_confined_inside_the_confined_unit(machine: Machine) -> None:
    """EXT-14, decisions 42: seccomp and Landlock of the worker's own work under the unit's filter."""
    found = plugins(machine)["pipedrive"]
    assert found["state"] not in ("refused", "quarantined", "absent"), found
    assert found["sandbox"]["landlock_abi"] >= 1 and found["sandbox"]["seccomp"] >= 2, found
    pid = int(show(machine, "MainPID")["MainPID"])
    daemon = machine.run(f"cat /proc/{pid}/status").stdout
    worker = machine.run(f"cat /proc/{found['pid']}/status").stdout
    for status in (daemon, worker):
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.M) and re.search(r"^Seccomp:\s+2$", status, re.M), status
        assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M), status

    def filters(status: str) -> int:
        return int(re.search(r"^Seccomp_filters:\s+(\d+)$", status, re.M).group(1))

    assert filters(worker) > filters(daemon) > 0
    handed = machine.run(f"ls -l /run/credentials/{UNIT}/kek").stdout
    assert handed, "systemd handed no key on"
    environment = machine.run(f"tr '\\0' '\\n' < /proc/{pid}/environ").stdout
    assert f"CREDENTIALS_DIRECTORY=/run/credentials/{UNIT}" in environment and "kek" not in environment.replace("credentials", "")


def test_a_reload_of_a_wrong_file_fails_and_changes_nothing(machine: Machine) -> None:
    """EXT-15: systemctl says so, too"""
    before = show(machine, "MainPID", "ActiveState")
    machine.run("tee /etc/milepost/conf.d/wrong.yaml", stdin="listn: 127.0.0.1:1\n")
    refused = machine.run("systemctl reload milepost", check=False)
    machine.run("rm /etc/milepost/conf.d/wrong.yaml")
    assert refused.returncode != 0
    assert show(machine, "MainPID", "ActiveState") == before
    assert "wrong.yaml:1" in machine.run(f"journalctl -u {UNIT} -n 10 -o cat").stdout
    machine.run("systemctl reload milepost")


def test_a_start_that_fails_for_long_works_once_the_cause_is_gone(machine: Machine) -> None:
    """A port that is taken for half a minute: systemd does not give up meanwhile."""
    machine.run("systemctl stop milepost")
    machine.run("systemd-run --unit=taken milepost-sandbox --listen 127.0.0.1:8787")
    machine.run("systemctl start milepost", check=False)
    wait_for("it was tried a dozen times", lambda: int(show(machine, "NRestarts")["NRestarts"]) >= 11, 60, 1)
    machine.run("systemctl stop taken")
    wait_for("it starts by itself", lambda: show(machine, "ActiveState")["ActiveState"] == "active", 20, 0.5)


def test_the_journal_holds_the_daemons_own_lines_only(machine: Machine) -> None:
    """OBS-05: the runtime is told that its priorities were set, and logs no refusals"""
    assert "thread priority" not in machine.run(f"journalctl -u {UNIT} -o cat").stdout


def test_a_doctor_run_by_root_finds_nothing_wrong(machine: Machine) -> None:
    said = machine.run("milepost doctor --json", check=False)
    wrong = [finding for finding in json.loads(said.stdout)["findings"] if finding["severity"] == "problem"]
    assert said.returncode == 0 and not wrong, wrong


def key_ids(machine: Machine) -> list[str]:
    return [line.split()[1] for line in machine.inside("/etc/milepost/credentials/kek").read_text().splitlines() if line.startswith("mpkek1 ")]


def test_root_rotates_the_key_that_systemd_hands_over(machine: Machine) -> None:
    """SEC-11: the daemon has a read-only copy of the ring, so that root's command changes the original"""
    old = key_ids(machine)
    assert len(old) == 1
    token = machine.run("cat ~/.config/milepost/token").stdout.strip()
    refused = machine.run(f"MILEPOST_TOKEN={token} setpriv --reuid nobody --clear-groups milepost keys new", check=False)
    assert refused.returncode != 0 and "key_ring_read_only" in refused.stderr and "as root" in refused.stderr, refused
    assert key_ids(machine) == old

    made = milepost(machine, "keys new")
    assert made["kek"] == "/etc/milepost/credentials/kek", made
    fresh = made["current_key"]
    assert key_ids(machine) == [*old, fresh]
    key = machine.inside("/etc/milepost/credentials/kek")
    assert key.stat().st_mode & 0o777 == 0o600 and key.stat().st_uid == 0
    assert milepost(machine, "keys")["current_key"] == old[0], "a copy that systemd made does not change"
    again = machine.run("milepost keys new", check=False)
    assert again.returncode != 0 and "systemctl restart milepost" in again.stderr, again

    machine.run(f"systemctl restart {UNIT}")
    assert milepost(machine, "keys")["current_key"] == fresh
    needed = machine.run(f"milepost keys drop {old[0]}", check=False)
    assert needed.returncode != 0 and key_ids(machine) == [*old, fresh], "a key was dropped that credentials need"
    assert milepost(machine, "keys rewrap")["rewrapped"] >= 1
    milepost(machine, f"keys drop {old[0]}")
    assert key_ids(machine) == [fresh]
    machine.run(f"systemctl restart {UNIT}")
    assert [key["id"] for key in milepost(machine, "keys")["keys"]] == [fresh]

    machine.run("tee /srv/rotated.jsonl", stdin=clicks("rotated", 120))
    machine.run("milepost import clicks /srv/rotated.jsonl --format milepost -w acme && milepost tick")
    assert [deal for deal in ledger(machine, "deals") if "rotated" in deal["title"]], "the credential does not open any more"


def test_a_plugin_package_reloads_the_daemon_and_nothing_else(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14"""
    before, count = show(machine, "MainPID", "InvocationID"), reloads(machine)
    worker = plugins(machine)["pipedrive"]["pid"]
    install(machine, packages["milepost-plugin-custom-hook"])
    wait_for("the daemon reloads", lambda: reloads(machine) == count + 1)
    found = plugins(machine)
    assert found["custom-hook"]["state"] == "disabled", "presence is no consent"
    assert found["pipedrive"]["pid"] == worker, "another plugin's worker was restarted"
    assert show(machine, "MainPID", "InvocationID") == before
    machine.run("sed -i 's/enabled: false/enabled: true/' /etc/milepost/conf.d/custom-hook.yaml && systemctl reload milepost")
    wait_for("it runs", lambda: plugins(machine)["custom-hook"]["enabled"])
    assert plugins(machine)["custom-hook"]["state"] not in ("refused", "absent", "quarantined")
    count = reloads(machine)
    machine.run("dpkg --remove milepost-plugin-custom-hook")
    wait_for("the daemon reloads", lambda: reloads(machine) == count + 1)
    assert show(machine, "MainPID", "InvocationID") == before
    assert plugins(machine)["custom-hook"]["state"] in ("refused", "absent"), "an absent plugin degrades status only"
    machine.run("dpkg --purge milepost-plugin-custom-hook")
    wait_for("its switch is gone", lambda: "custom-hook" not in plugins(machine))
    status = show(machine, "StatusText", "ActiveState")
    assert status == {"StatusText": "takes work", "ActiveState": "active"}, status


def third_party(folder: Path) -> Path:
    """A generated project's package, made as its maker would."""
    dist = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build" / "dist"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    project = folder / "acme-crm"
    subprocess.run([str(dist / "milepost"), "plugin", "new", "acme-crm", "--folder", str(project)], check=True, capture_output=True)
    done = subprocess.run(
        ["dpkg-buildpackage", "-us", "-uc", "-b", "-d"], cwd=project, capture_output=True, text=True,
        env=os.environ | {"MILEPOST_INCLUDE": str(ROOT / "include")})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next(path for path in folder.glob("milepost-plugin-acme-crm_*.deb"))


def test_a_third_partys_plugin_package_is_picked_up_and_makes_a_record(machine: Machine) -> None:
    """EXT-14, EXT-01: built by `milepost plugin new`, without a maintainer script"""
    package = third_party(WORK / "third-party")
    scripts = subprocess.run(["dpkg-deb", "-I", str(package)], capture_output=True, text=True, check=True).stdout
    assert "postinst" not in scripts and "milepost-plugin-abi-1 (>= 1.0)" in scripts, scripts
    count = reloads(machine)
    install(machine, package)
    wait_for("the daemon reloads", lambda: reloads(machine) == count + 1)
    assert plugins(machine)["acme-crm"]["state"] == "disabled"
    machine.run("tee /etc/milepost/conf.d/50-acme-crm.yaml && systemctl reload milepost",
                stdin="plugins:\n  acme-crm: { enabled: true }\n")
    wait_for("it is loaded", lambda: plugins(machine)["acme-crm"]["enabled"])
    found = plugins(machine)["acme-crm"]
    assert found["state"] not in ("refused", "absent", "quarantined"), found
    assert found["sandbox"]["landlock_abi"] >= 1 and found["sandbox"]["seccomp"] >= 2, found
    machine.run("rm /etc/milepost/conf.d/50-acme-crm.yaml && dpkg --purge milepost-plugin-acme-crm")


def test_a_plugin_for_a_newer_abi_is_refused_by_dpkg(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14"""
    tree = WORK / "newer-abi"
    shutil.rmtree(tree, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", str(packages["milepost-plugin-custom-hook"]), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = control.read_text()
    assert re.search(r"milepost-plugin-abi-1 \(>= 1\.\d+\)", text), text
    control.write_text(re.sub(r"milepost-plugin-abi-1 \(>= 1\.\d+\)", "milepost-plugin-abi-1 (>= 1.99)", text))
    made = WORK / "newer-abi.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(made)], check=True, stdout=subprocess.DEVNULL)
    refused = install(machine, made, check=False)
    assert refused.returncode != 0 and "milepost-plugin-abi-1" in refused.stderr, refused
    machine.run("dpkg --purge milepost-plugin-custom-hook")


class Load(threading.Thread):
    """Posts clicks with ids of their own, one batch after the other, and posts a batch again until it is acknowledged."""

    def __init__(self, machine: Machine, token: str):
        super().__init__(daemon=True)
        self.machine, self.token = machine, token
        self.ending = threading.Event()
        self.acknowledged, self.refused = 0, 0

    def run(self) -> None:
        batch = 0
        while not self.ending.is_set():
            body = "".join(
                json.dumps({"id": f"load-{batch}-{n}", "ts": "2026-01-01T00:00:00Z", "link": f"load-{n}"}) + "\n" for n in range(50))
            while True:
                done = self.machine.run(
                    "curl -s -o /dev/null -w '%{http_code}' --max-time 10 --data-binary @- -H 'content-type: application/x-ndjson' "
                    f"-H 'authorization: Bearer {self.token}' http://127.0.0.1:8787/v1/workspaces/acme/events", check=False, stdin=body)
                if done.stdout.startswith("2"):
                    break
                self.refused += 1
                time.sleep(0.05)
            self.acknowledged += 50
            batch += 1
            time.sleep(0.02)


def test_an_upgrade_under_load_drops_and_doubles_nothing(machine: Machine, newer: dict[str, Path]) -> None:
    """EXT-14"""
    machine.run("milepost integrations set pipedrive -w acme thresholds=[10,20,30]")
    load = Load(machine, milepost(machine, "tokens create load --scope ingest --only -w acme")["token"])
    before = show(machine, "MainPID")
    key = machine.inside("/etc/milepost/credentials/kek").read_bytes()
    load.start()
    wait_for("the load runs", lambda: load.acknowledged >= 600, 60)
    ticks = threading.Thread(target=lambda: machine.run("milepost tick", check=False), daemon=True)
    ticks.start()
    install(machine, newer["milepost"], newer["milepost-plugin-pipedrive"])
    upgraded = load.acknowledged
    wait_for("the load goes on after the upgrade", lambda: load.acknowledged >= max(upgraded, 1600) + 100, 90)
    load.ending.set()
    load.join(30)
    ticks.join(30)
    assert show(machine, "MainPID") != before, "the upgrade did not restart the daemon"
    assert "0.1.1" in machine.run("dpkg-query -W -f '${Version}' milepost").stdout
    assert machine.inside("/etc/milepost/credentials/kek").read_bytes() == key, "the upgrade made a new key"

    each = load.acknowledged // 50
    for n in range(50):
        totals = milepost(machine, f"links show load-{n} -w acme")["totals"]
        assert totals["all"] == each, (n, totals, each)
    assert each >= 30

    def settled() -> bool:
        machine.run("milepost tick")
        return not milepost(machine, "deliveries -w acme --state pending,in_flight,uncertain,retrying,held")["deliveries"]

    wait_for("every delivery is done", settled, 60, 0.5)
    titles = [deal["title"] for deal in ledger(machine, "deals") if "load-" in deal["title"]]
    print(f"{load.acknowledged} clicks acknowledged, {load.refused} posts refused and repeated, {len(titles)} deals")
    assert len(titles) == 150 and len(set(titles)) == 150, (len(titles), len(set(titles)))


def test_one_version_back_works_on_the_same_data(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14"""
    install(machine, packages["milepost"], packages["milepost-plugin-pipedrive"])
    wait_for("it takes work", lambda: show(machine, "StatusText", "ActiveState") == {"StatusText": "takes work", "ActiveState": "active"})
    assert milepost(machine, "links show launch -w acme")["totals"]["all"] == 120


def test_removing_keeps_configuration_and_ledger(machine: Machine) -> None:
    """EXT-14"""
    machine.run("dpkg --remove milepost milepost-plugin-pipedrive")
    assert "milepostd" not in machine.run("cat /proc/[0-9]*/comm").stdout.split()
    assert machine.inside("/etc/milepost/milepost.yaml").exists() and machine.inside("/etc/milepost/credentials/kek").exists()
    assert SANDBOX in machine.inside("/etc/milepost/conf.d/pipedrive.yaml").read_text()
    assert machine.inside("/var/lib/milepost/milepost.db").exists()


def test_purging_keeps_the_ledger_with_its_key_and_says_how_to_remove_it(machine: Machine) -> None:
    """EXT-14"""
    said = machine.run("dpkg --purge milepost milepost-plugin-pipedrive milepost-sandbox 2>&1").stdout
    assert "rm -r /var/lib/milepost" in said, said
    assert machine.inside("/var/lib/milepost/milepost.db").exists() and machine.inside("/etc/milepost/credentials/kek").exists()
    for folder in ("/etc", "/usr", "/lib/systemd", "/var/lib/systemd"):
        left = [line for line in machine.run(f"find -L {folder} -xdev -name '*milepost*' 2>/dev/null", check=False).stdout.split()]
        assert set(left) <= {"/etc/milepost"}, left
    assert sorted(path.name for path in machine.inside("/etc/milepost").iterdir()) in (["credentials"], ["conf.d", "credentials"])


def test_a_machine_that_never_ran_it_is_left_as_it_was(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14: what is left after purge is the system user, as Debian keeps them"""
    machine.run("rm -r /var/lib/milepost /var/backups/milepost /etc/milepost")
    listing = "find /etc /usr /lib /var -xdev ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/var/lib/dpkg/*' ! -path '/var/tmp/*' | sort"
    before = machine.run(listing).stdout.splitlines()
    files = [path for name, path in packages.items() if "dbgsym" not in name]
    install(machine, *files)
    machine.run("dpkg --purge " + " ".join(name for name in packages if "dbgsym" not in name))
    after = machine.run(listing).stdout.splitlines()
    assert sorted(set(after) - set(before)) == [] and sorted(set(before) - set(after)) == []


def test_purging_keeps_the_key_of_a_database_elsewhere(machine: Machine, packages: dict[str, Path]) -> None:
    """EXT-14: the configuration, which says where the data lie, is gone when the purge asks"""
    install(machine, packages["milepost"])
    machine.run("echo 'data_dir: /srv/milepost' >> /etc/milepost/milepost.yaml")
    key = machine.inside("/etc/milepost/credentials/kek").read_bytes()
    said = machine.run("dpkg --purge milepost 2>&1").stdout
    assert "kept /etc/milepost/credentials" in said, said
    assert machine.inside("/etc/milepost/credentials/kek").read_bytes() == key
    machine.run("rm -r /etc/milepost")
