# SPDX-License-Identifier: Apache-2.0
"""The daemon as its operator meets it: life cycle and command line (K, AA)."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import DIST, Daemon, problem, rfc3339, run_cli, wait_for


class TestLife:
    def test_a_second_daemon_waits_and_takes_over_after_a_kill(self, own) -> None:
        """ACC-01, DUP-01 on SQLite"""
        first = own().start()
        workspace = first.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("before", 2)
        workspace.tick()
        second = Daemon(first.directory, None)
        second.settings, second.token, second.env = first.settings, first.token, first.env
        second.write_config()
        second.log = first.directory / "second.log"
        second.sandbox = first.sandbox
        second.start(ready=False)
        try:
            problem(second.rest.request("GET", "/readyz"), 503, "standby")
            assert second.rest.request("GET", "/healthz").json["role"] == "standby"
            problem(second.rest.request("GET", "/v1/workspaces"), 503, "standby")
            problem(
                second.rest.request("POST", "/v1/workspaces/acme/events", {"link": "x", "ts": rfc3339()}),
                503,
                "standby",
            )
            workspace.clicks("between", 2)
            first.kill()
            started = time.monotonic()
            second.wait_ready(timeout=10)
            assert time.monotonic() - started < 5
            second.drain("acme")
            assert sorted(deal["title"] for deal in first.sandbox.deals()) == [
                "Link before hit 2 clicks",
                "Link between hit 2 clicks",
            ]
        finally:
            second.kill()

    def test_init_refuses_while_a_daemon_works_and_keeps_the_key_when_repeated(self, own) -> None:
        """decisions 34"""
        daemon = own()
        daemon.init()
        key = Path(daemon.settings["kms"]["path"]).read_bytes()
        daemon.init()
        assert Path(daemon.settings["kms"]["path"]).read_bytes() == key
        daemon.start()
        done = subprocess.run(
            [str(DIST / "milepostd"), "--init", "--config", str(daemon.config_file)],
            capture_output=True,
            text=True,
            timeout=20,
            env=daemon.environment(),
        )
        assert done.returncode == 1 and "stop it first" in done.stderr, done

    def test_sigterm_stops_gracefully_and_leaves_nothing_behind(self, own) -> None:
        daemon = own(plugins={"pipedrive": {"isolation": "worker"}}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("spring", 2)
        workspace.tick()
        worker = next(plugin["pid"] for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"] if plugin["pid"])
        assert daemon.stop() == 0
        wait_for("the worker is gone", lambda: not Path(f"/proc/{worker}").exists(), timeout=5)
        daemon.start()
        assert len(workspace.deliveries(state="delivered")) == 1

    def test_a_graceful_stop_in_the_middle_of_a_delivery_loses_and_doubles_nothing(self, own) -> None:
        daemon = own(delivery={"request_timeout": "5s"}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        for number in range(5):
            workspace.clicks(f"spring{number}", 2)
        daemon.sandbox.fault("delay", delay_ms=400, times=0)
        ticking = threading.Thread(target=lambda: _quietly(daemon.tick))
        ticking.start()
        wait_for("a delivery is under way", lambda: daemon.sandbox.requests("POST", "/api/v2/deals"))
        assert daemon.stop() == 0
        ticking.join(30)
        daemon.sandbox.clear_faults()
        daemon.start()
        workspace.drain(timeout=40)
        assert sorted(deal["title"] for deal in daemon.sandbox.deals()) == [
            f"Link spring{n} hit 2 clicks" for n in range(5)
        ]
        assert len(daemon.sandbox.notes()) == 5

    def test_a_killed_daemon_leaves_no_worker_behind(self, own) -> None:
        daemon = own(plugins={"pipedrive": {"isolation": "worker"}}).start()
        daemon.workspace("acme").connect()
        worker = next(plugin["pid"] for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"] if plugin["pid"])
        daemon.kill()

        def is_gone() -> bool:
            try:
                return Path(f"/proc/{worker}/stat").read_text().split(") ")[1][0] == "Z"
            except FileNotFoundError:
                return True

        wait_for("the worker is gone", is_gone, timeout=5)

    def test_a_plugin_that_is_refused_is_logged_once(self, own) -> None:
        """Whoever refuses it says so: the host what it cannot load, the daemon what it does not hand over."""
        daemon = own(plugins={"absent": {"enabled": True}, "pipedrive": {"sha256": "0" * 64}}).start()
        lines = daemon.process.output().splitlines()
        for name in ("absent", "pipedrive"):
            said = [line for line in lines if "refused" in line and f"plugin={name}" in line]
            assert len(said) == 1 and " ERROR " in said[0], said

    def test_a_worker_that_is_killed_comes_back_and_loses_nothing(self, own) -> None:
        """EXT-02, invariant 7"""
        daemon = own(plugins={"pipedrive": {"isolation": "worker"}}).start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])

        def worker() -> int | None:
            return next(
                (p["pid"] for p in daemon.rest.get("/v1/admin/plugins")["plugins"] if p["name"] == "pipedrive"), None
            )

        first = worker()
        assert Path(f"/proc/{first}/status").read_text().split("PPid:")[1].split()[0] == str(daemon.process.pid)
        workspace.clicks("spring", 2)
        os.kill(first, signal.SIGKILL)
        workspace.drain(timeout=30)
        assert len(daemon.sandbox.deals()) == 1 and len(daemon.sandbox.notes()) == 1
        second = wait_for("a new worker runs", lambda: worker() not in (None, first) and worker())
        assert second != first
        [plugin] = [p for p in daemon.rest.get("/v1/admin/plugins")["plugins"] if p["name"] == "pipedrive"]
        assert plugin["restarts"] >= 1 and plugin["state"] == "loaded", plugin

    def test_sighup_switches_a_plugin_off_and_on_without_losing_anything(self, own) -> None:
        """design: reload applies changes, plugins included"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])

        def state() -> str:
            return next(p["state"] for p in daemon.rest.get("/v1/admin/plugins")["plugins"] if p["name"] == "pipedrive")

        assert state() == "loaded"
        daemon.settings["plugins"]["pipedrive"]["enabled"] = False
        daemon.write_config()
        daemon.process.signal(signal.SIGHUP)
        wait_for("the plugin is off", lambda: state() == "disabled")
        workspace.clicks("spring", 2)
        workspace.tick()
        assert daemon.sandbox.deals() == []
        assert any("pipedrive" in str(note) for note in workspace.explain("spring")["notes"]), workspace.explain(
            "spring"
        )
        daemon.settings["plugins"]["pipedrive"]["enabled"] = True
        daemon.write_config()
        daemon.process.signal(signal.SIGHUP)
        wait_for("the plugin is back", lambda: state() == "loaded")
        workspace.drain()
        assert len(daemon.sandbox.deals()) == 1

    def test_a_reload_of_a_broken_file_keeps_the_old_configuration_and_says_what_is_wrong(self, own) -> None:
        daemon = own().start()
        good = daemon.config_file.read_text()
        daemon.config_file.write_text("lissten: x\n")
        answer = daemon.rest.post("/v1/admin/reload")
        assert any("lissten" in error for error in answer["errors"]) and answer["applied"] == [], answer
        assert daemon.process.alive and daemon.rest.request("GET", "/readyz").status == 200
        daemon.config_file.write_text(good)
        assert daemon.rest.post("/v1/admin/reload")["errors"] == []
        daemon.settings["log"]["level"] = "info"
        daemon.settings["listen"] = "127.0.0.1:1"
        daemon.write_config()
        answer = daemon.rest.post("/v1/admin/reload")
        assert "log.level" in answer["applied"] and "listen" in answer["restart_required"], answer

    def test_an_enabled_plugin_that_is_absent_degrades_status_and_not_the_start(self, own) -> None:
        """decisions 19"""
        daemon = own(plugins={"absent-crm": {"enabled": True}}).start()
        plugins = {plugin["name"]: plugin for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"]}
        assert plugins["pipedrive"]["state"] == "loaded"
        assert plugins["absent-crm"]["state"] not in ("loaded", "disabled") and plugins["absent-crm"]["reason"], plugins[
            "absent-crm"
        ]
        told = [entry for entry in daemon.rest.get("/v1/admin/status")["problems"] if "absent-crm" in entry["message"]]
        assert told and told[0]["cure"], told

    @pytest.mark.parametrize("mode", [0o666, 0o777])
    def test_a_plugin_that_others_may_write_is_refused(self, own, mode: int) -> None:
        """decisions 19, EXT-01"""
        daemon = own()
        plugins = daemon.directory / "plugins"
        shutil.copytree(DIST / "plugins", plugins)
        (plugins / "pipedrive.so").chmod(mode)
        daemon.settings["plugin_dirs"] = [str(plugins)]
        daemon.write_config()
        daemon.start()
        [plugin] = [p for p in daemon.rest.get("/v1/admin/plugins")["plugins"] if p["name"] == "pipedrive"]
        assert plugin["state"] == "refused" and "writ" in plugin["reason"], plugin

    def test_the_start_is_quick(self, own) -> None:
        """Generous bound for a busy machine; the figure itself is the bench's."""
        daemon = own()
        daemon.init()
        started = time.monotonic()
        daemon.start()
        assert time.monotonic() - started < 3


class TestCommandLine:
    def test_status_doctor_and_schedule_answer_people_and_scripts(self, own) -> None:
        """THR-18, TRB-01: text and JSON, exit codes"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect()
        daemon.tick()
        assert daemon.cli("status", "--json").json["role"] == "active"
        assert "pipedrive" in daemon.cli("status").out
        schedule = daemon.cli("schedule", "--json").json["schedules"][0]
        assert (schedule["name"], schedule["result"], schedule["overdue"]) == ("click_threshold_hook", "ok", False)
        assert schedule["last_run_at"] and schedule["next_run_at"] and schedule["duration_ms"] >= 0
        healthy = daemon.cli("doctor", "--config", str(daemon.config_file), "--json", check=False)
        assert healthy.code == 0, healthy.out + healthy.err
        daemon.sandbox.revoke()
        workspace.clicks("spring", 100)
        workspace.tick()
        sick = daemon.cli("doctor", "--config", str(daemon.config_file), check=False)
        assert sick.code == 1 and "needs_reauth" in sick.out + sick.err and "token" in sick.out, sick.out
        assert "needs_reauth" in daemon.cli("status", "--json").out, "status shows it and ends with 0"
        assert all("Exit status" in daemon.cli(command, "--help").out for command in ("status", "doctor"))
        assert "\x1b[" not in sick.out, "colours on something that is no terminal"

    def test_exit_codes_tell_refusal_from_absence(self, own) -> None:
        daemon = own().start()
        run = daemon.cli("explain", "none", "-w", "acme", "--json", check=False)
        assert run.code == 1 and run.json["code"] == "not_found", run.out
        assert daemon.cli("status", check=False, MILEPOST_TOKEN="mpt_wrong").code == 1
        assert daemon.cli("status", check=False, MILEPOST_URL="http://127.0.0.1:1").code == 3
        assert daemon.cli("statsu", check=False).code == 64
        doctor = daemon.cli(
            "doctor", "--config", str(daemon.config_file), check=False, MILEPOST_URL="http://127.0.0.1:1"
        )
        assert doctor.code in (0, 1, 3) and "daemon" in doctor.out, doctor.out + doctor.err

    def test_an_overdue_schedule_is_an_exit_code(self, own) -> None:
        """THR-18"""
        daemon = own().start()
        answers = {
            "schedules": [
                {
                    "name": "click_threshold_hook",
                    "interval_seconds": 300,
                    "last_run_at": None,
                    "duration_ms": None,
                    "result": None,
                    "next_run_at": None,
                    "overdue": True,
                }
            ]
        }
        with recording_server(answers) as (url, _):
            assert daemon.cli("schedule", check=False, MILEPOST_URL=url).code == 1

    def test_init_makes_everything_a_first_start_needs(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        done = run_cli("init", "--config", str(daemon.config_file), "--json", env=daemon.environment())
        daemon.token = done.json["token"]
        daemon.start()
        try:
            # The token was saved where the command line finds it.
            env = {key: value for key, value in daemon.environment().items() if key != "MILEPOST_TOKEN"}
            assert run_cli("status", "--json", env={**env, "MILEPOST_URL": daemon.url}).json["role"] == "active"
        finally:
            daemon.kill()

    def test_the_list_of_tokens_has_no_column_that_nothing_fills(self, own) -> None:
        daemon = own().start()
        daemon.cli("tokens", "create", "full", "--scope", "viewer", "-w", "acme", "--expires-at", "2099-01-01T00:00:00Z")
        lines = [re.split(r"  +", line.strip()) for line in daemon.cli("tokens").out.splitlines()]
        [row] = [line for line in lines if "full" in line]
        assert len(row) == len(lines[0]) and "-" not in row, lines

    def test_every_route_has_a_command_and_every_command_a_route(self, own) -> None:
        """EXT-10: each command is run against a server that notes what it was asked."""
        daemon = own().start()
        operations = {}
        for path, methods in daemon.rest.get("/openapi.json")["paths"].items():
            for method, operation in methods.items():
                operations[operation["operationId"]] = (
                    method.upper(),
                    re.compile(re.sub(r"{\w+}", "[^/]+", path) + r"(\?.*)?"),
                )
        clicks = daemon.directory / "one.ndjson"
        clicks.write_text('{"id":"a","ts":"2026-01-01T00:00:00Z","link":"x"}\n')
        feed = daemon.directory / "feed.ndjson"
        feed.write_text('{"g":"x","t":1760000000,"u":"https://example.org/","a":"Firefox"}\n')
        plans = daemon.directory / "plans.json"
        plans.write_text('{"plans":{"free":{"fires":false}}}')
        wanted = daemon.directory / "wanted.yaml"
        wanted.write_text(
            "workspaces: {acme: {connections: {pipedrive: {credentials: {api_token: {env: MILEPOST_TOKEN}}}}}}"
        )
        rules = daemon.directory / "rules.yaml"
        rules.write_text("rules: []\n")
        commands = {
            "events.post": ["import", "clicks", str(clicks), "--format", "milepost"],
            "workspaces.list": ["workspaces"],
            "workspaces.put": ["workspaces", "set", "acme", "--plan", "pro"],
            "links.list": ["links"],
            "links.get": ["links", "show", "x"],
            "links.describe": ["import", "clicks", str(feed), "--format", "bitly"],
            "links.put": ["links", "set", "x", "title=y"],
            "links.explain": ["explain", "x"],
            "events.explain": ["explain", "--event", "e"],
            "held.list": ["held"],
            "members.get": ["members", "show", "jo"],
            "members.put": ["members", "set", "jo", "--crm-opt-out", "true"],
            "integrations.list": ["integrations"],
            "integrations.get": ["integrations", "show", "pipedrive"],
            "integrations.enable": ["integrations", "enable", "pipedrive"],
            "integrations.events.post": ["integrations", "event", "pipedrive", "--id", "e", "dealId=1", "newStage=2"],
            "integrations.events.list": ["integrations", "events", "pipedrive"],
            "integrations.check": ["integrations", "check", "pipedrive"],
            "integrations.rollout": ["integrations", "rollout", "pipedrive"],
            "integrations.connect": ["connect", "pipedrive", "--credential", "api_token=x", "--set", "pipeline_id=1"],
            "integrations.authorize": ["connect", "pipedrive", "--oauth", "--no-wait"],
            "integrations.authorize.status": ["connect", "pipedrive", "--authorization", "auth_1"],
            "integrations.authorize.complete": ["connect", "pipedrive", "--redirect-url", "http://x/?code=a&state=b"],
            "apps.list": ["app", "show"],
            "apps.get": ["app", "show", "pipedrive"],
            "apps.put": ["app", "set", "pipedrive", "--client-id", "x", "--keep-secret"],
            "apps.delete": ["app", "remove", "pipedrive"],
            "apps.provision": ["provision", "pipedrive", "--app"],
            "apps.deprovision": ["provision", "pipedrive", "--app", "--remove"],
            "integrations.provision": ["provision", "pipedrive"],
            "integrations.deprovision": ["provision", "pipedrive", "--remove", "--object", "x"],
            "oauth.adopt": ["app", "adopt"],
            "integrations.change": ["integrations", "set", "pipedrive", "stage_id=2"],
            "integrations.disconnect": ["disconnect", "pipedrive"],
            "integrations.options": ["options", "pipedrive", "pipelines"],
            "integrations.options.trial": ["connect", "pipedrive", "--credential", "api_token=x"],
            "deliveries.list": ["deliveries"],
            "deliveries.export": ["deliveries", "export"],
            "deliveries.get": ["deliveries", "show", "d"],
            "deliveries.replay": ["deliveries", "replay", "d"],
            "deliveries.release": ["deliveries", "release", "d"],
            "deliveries.replay.bulk": ["replay", "--state", "dead"],
            "forms.post": ["forms"],
            "contacts.export": ["export", "contact", "jo"],
            "contacts.erase": ["erase", "contact", "jo", "--yes"],
            "admin.tick": ["tick"],
            "admin.plugins": ["plugins"],
            "admin.reload": ["reload"],
            "admin.configuration.diff": ["config", "diff"],
            "admin.schedule": ["schedule"],
            "admin.status": ["status"],
            "tokens.list": ["tokens"],
            "tokens.create": ["tokens", "create", "n"],
            "tokens.revoke": ["tokens", "revoke", "t"],
            "audit.list": ["audit"],
            "plans.get": ["plans"],
            "plans.put": ["plans", "set", str(plans)],
            "keys.list": ["keys"],
            "keys.reload": ["keys", "reload"],
            "keys.rewrap": ["keys", "rewrap"],
            "keys.create": ["keys", "new"],
            "keys.drop": ["keys", "drop", "k1"],
            "managed.list": ["apply", str(wanted)],
            "integrations.compare": ["apply", str(wanted)],
            "rules.list": ["rules"],
            "rules.create": ["rules", "add", str(rules)],
            "rules.apply": ["rules", "apply", str(rules)],
            "rules.get": ["rules", "show", "r"],
            "rules.put": ["rules", "set", "r", str(rules)],
            "rules.remove": ["rules", "remove", "r"],
            "rules.simulate": ["rules", "simulate", str(rules)],
            "rules.firings": ["rules", "firings", "r"],
            "rules.explain": ["explain", "--contact", "jo"],
            "rules.explain.one": ["explain", "--rule", "r"],
            "admin.audit_totals": ["audit", "--totals"],
            "admin.backup": ["backup", "/x"],
        }
        for_machines = {"healthz", "readyz", "openapi", "metrics", "oauth.callback"}
        missing = set(operations) - set(commands) - for_machines
        assert not missing, f"routes without a command: {missing}"
        unknown = set(commands) - set(operations)
        assert not unknown, f"commands whose route is not there: {unknown}"
        failed = []
        # Enough for a command that looks before it asks; the others take any answer.
        there = {"workspaces": [{"id": "acme"}], "integrations": [{"integration": "pipedrive", "state": "active"}]}
        with recording_server(there) as (url, asked):
            env = {
                **daemon.environment(),
                "MILEPOST_URL": url,
                "MILEPOST_TOKEN": "mpt_" + "A" * 43,
                "MILEPOST_WORKSPACE": "acme",
            }
            for operation, arguments in commands.items():
                asked.clear()
                run_on_terminal(arguments, env)
                method, pattern = operations[operation]
                if not any(entry[0] == method and pattern.fullmatch(entry[1]) for entry in asked):
                    failed.append(
                        f"milepost {' '.join(arguments)} did not ask {method} {pattern.pattern}; it asked {asked}"
                    )
        assert not failed, "\n".join(failed)

    def test_an_import_shows_a_progress_bar_only_on_a_terminal(self, own) -> None:
        daemon = own().start()
        daemon.workspace("acme").put_link("x")
        clicks = daemon.directory / "one.ndjson"
        clicks.write_text("".join(f'{{"id":"a{n}","ts":"2026-01-01T00:00:00Z","link":"x"}}\n' for n in range(20_000)))
        run = daemon.cli("import", "clicks", str(clicks), "--format", "milepost", "-w", "acme")
        assert "\r" not in run.out + run.err and "\x1b" not in run.out + run.err
        assert "20000" in run.out.replace(",", "").replace(" ", ""), run.out


def run_on_terminal(arguments: list[str], env: dict[str, str]) -> None:
    """Runs a command that may ask questions: it gets a terminal with empty answers."""
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            [str(DIST / "milepost"), *arguments],
            stdin=slave,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        slave = -1
        os.write(master, b'{"ts":"2026-01-01T00:00:00Z"}\n\x04\n\x04')
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


class recording_server:
    """An HTTP server that answers everything with one JSON value and notes what it was asked."""

    def __init__(self, answer: dict):
        self.asked: list[tuple[str, str]] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                asked.append((self.command, self.path))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> tuple[str, list[tuple[str, str]]]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}", self.asked

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def _quietly(action) -> None:
    """Runs what the end of the daemon may cut off."""
    try:
        action()
    except Exception:  # the daemon was stopped under it, which is the test
        pass
