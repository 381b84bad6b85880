# SPDX-License-Identifier: Apache-2.0
"""The daemon as its operator meets it: configuration, life cycle, access, metrics, command line (K, L, T, AA)."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import DIST, VENDOR_TOKEN, Daemon, Rest, listed, problem, rfc3339, run_cli, wait_for

EX_CONFIG = 78


def refused(daemon: Daemon, code: int | None = None) -> str:
    """Starts a daemon that must not start; returns what it says."""
    done = subprocess.run(
        [str(DIST / "milepostd"), "--config", str(daemon.config_file)],
        capture_output=True,
        text=True,
        timeout=20,
        env=daemon.environment(),
    )
    assert done.returncode != 0 and (code is None or done.returncode == code), (
        done.returncode,
        done.stdout,
        done.stderr,
    )
    return done.stdout + done.stderr


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "line", "told"),
        [
            ("listen: 127.0.0.1:0\nlissten: x\n", 2, ["unknown key 'lissten'", "did you mean 'listen'"]),
            ("schedule:\n  treshold_interval: 5m\n", 2, ["treshold_interval", "did you mean 'threshold_interval'"]),
            ("plugins:\n  pipedrive:\n    enabeld: true\n", 3, ["enabeld", "did you mean 'enabled'"]),
            ("delivery: { request_timeout: soon }\n", 1, ["delivery.request_timeout", "duration", "soon"]),
            ("listen: [1, 2\n", None, []),
            ("log: { level: loud }\n", 1, ["log.level", "error, warning, info, debug or trace", "loud"]),
            ("data_dir: relative/path\n", 1, ["data_dir", "absolute path"]),
            ("delivery: { request_timeout: 10s, operation_timeout: 5s }\n", 1, ["delivery.operation_timeout", "10s"]),
            ("kms: { path: DATA/kek }\n", 1, ["kms.path", "data_dir"]),
            ("listen: a\nlisten: b\n", 2, ["listen"]),
        ],
    )
    def test_an_error_names_file_line_and_what_would_be_right(
        self, tmp_path: Path, text: str, line: int | None, told: list[str]
    ) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.write_text(
            text.replace("DATA", str(daemon.data)) + ("" if "data_dir" in text else f"data_dir: {daemon.data}\n")
        )
        said = refused(daemon, EX_CONFIG)
        assert f"{daemon.config_file}:{line}:" in said if line else str(daemon.config_file) in said, said
        for part in told:
            assert part in said, said
        assert not daemon.data.exists(), "a wrong configuration touched the disk"

    def test_all_errors_are_told_at_once(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.write_text("lissten: x\nlog: { level: loud }\n")
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "10-more.yaml").write_text("\nretention: { click_days: 3 }\n")
        said = refused(daemon, EX_CONFIG)
        assert "lissten" in said and "log.level" in said and "10-more.yaml:2:" in said and "clicks_days" in said, said

    def test_fragments_and_the_environment_override(self, own) -> None:
        daemon = own()
        (daemon.directory / "conf.d").mkdir()
        (daemon.directory / "conf.d" / "10-a.yaml").write_text("metrics: { public: true }\n")
        daemon.env["MILEPOST_PLUGINS__PIPEDRIVE__ENABLED"] = "false"
        daemon.start()
        assert Rest(daemon.url).request("GET", "/metrics").status == 200
        states = {plugin["name"]: plugin["state"] for plugin in daemon.rest.get("/v1/admin/plugins")["plugins"]}
        assert states["pipedrive"] == "disabled", states

    def test_a_wrong_variable_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.env["MILEPOST_DELIVERY__REQUEST_TIMEOUT"] = "soon"
        said = refused(daemon, EX_CONFIG)
        assert "MILEPOST_DELIVERY__REQUEST_TIMEOUT" in said or "delivery.request_timeout" in said, said

    def test_a_missing_file_says_how_to_make_one(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.config_file.unlink()
        said = refused(daemon, EX_CONFIG)
        assert "milepost init" in said, said

    def test_a_key_ring_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        """SEC-09, decisions 33"""
        daemon = Daemon(tmp_path)
        daemon.init()
        kek = Path(daemon.settings["kms"]["path"])
        assert kek.stat().st_mode & 0o077 == 0
        kek.chmod(0o644)
        said = refused(daemon)
        assert str(kek) in said and ("mode" in said or "readable" in said), said

    def test_an_address_in_use_is_told(self, own, tmp_path: Path) -> None:
        daemon = own().start()
        second = Daemon(tmp_path / "second", listen=daemon.url.removeprefix("http://"))
        second.init()
        said = refused(second)
        assert "address" in said.lower() or "in use" in said.lower(), said


class TestDatabase:
    def database(self, daemon: Daemon) -> Path:
        found = [
            path for path in daemon.data.iterdir() if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"
        ]
        assert len(found) == 1, list(daemon.data.iterdir())
        return found[0]

    def test_a_foreign_database_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        """decisions 28"""
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        for extra in daemon.data.glob(path.name + "-*"):
            extra.unlink()
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE photos (id INTEGER)")
        connection.commit()
        connection.close()
        before = path.read_bytes()
        said = refused(daemon)
        assert path.name in said and "milepost" in said.lower() and ("another" in said or "not " in said), said
        assert path.read_bytes() == before, "a foreign database was changed"

    @pytest.mark.parametrize("damage", ["header", "text", "truncated"])
    def test_a_damaged_database_is_refused_with_the_way_out(self, tmp_path: Path, damage: str) -> None:
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        for extra in daemon.data.glob(path.name + "-*"):
            extra.unlink()
        if damage == "header":
            with path.open("r+b") as file:
                file.write(b"garbage garbage garbage")
        elif damage == "text":
            path.write_bytes(b"this is no database at all\n" * 400)
        else:
            with path.open("r+b") as file:
                file.truncate(6000)
        said = refused(daemon)
        assert "restore" in said.lower() or "backup" in said.lower(), said

    def test_a_database_of_a_newer_version_is_refused(self, tmp_path: Path) -> None:
        daemon = Daemon(tmp_path)
        daemon.init()
        path = self.database(daemon)
        connection = sqlite3.connect(path)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        migrations = [name for name in tables if "migration" in name]
        if migrations:
            connection.execute(f"INSERT INTO {migrations[0]} VALUES ('9999 from the future')")
        else:
            connection.execute("PRAGMA user_version = 9999")
        connection.commit()
        connection.close()
        said = refused(daemon)
        assert "newer" in said.lower(), said


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


class TestAccess:
    SCOPES = {
        "admin": {"admin", "operator", "viewer"},
        "operator": {"operator", "viewer"},
        "viewer": {"viewer"},
        "ingest": {"ingest"},
    }

    def test_each_scope_opens_its_routes_and_no_other(self, shared: Daemon, workspace) -> None:
        """PRV-05, EXT-09: every route of the description with every scope."""
        workspace.put_link("spring")
        tokens = {
            scope: shared.rest.post("/v1/admin/tokens", {"name": f"matrix {scope}", "scopes": [scope]})["token"]
            for scope in self.SCOPES
        }
        asked = 0
        for path, operations in shared.rest.get("/openapi.json")["paths"].items():
            url = re.sub(r"{ws}", workspace.name, path)
            url = re.sub(r"{\w+}", "nothing-such", url)
            for method, operation in operations.items():
                if method not in ("get", "post", "put", "patch", "delete"):
                    continue
                needed = operation.get("x-milepost-scope")
                answer = Rest(shared.url).request(method.upper(), url)
                if needed is None:
                    assert answer.status not in (401, 403), (method, path)
                    continue
                problem(answer, 401, "unauthenticated")
                assert "bearer" in answer.headers["www-authenticate"].lower()
                for scope, token in tokens.items():
                    if (
                        operation["operationId"] in ("admin.reload", "keys.rewrap", "admin.tick")
                        and needed in self.SCOPES[scope]
                    ):
                        continue  # it would do something; others below cover that it may
                    answer = shared.rest.with_token(token).request(
                        method.upper(), url, None if method == "get" else b"["
                    )
                    asked += 1
                    if needed in self.SCOPES[scope] or (scope == "admin" and answer.status != 403):
                        assert answer.status not in (401, 403), f"{scope} may not {method} {path}: {answer.body!r}"
                    else:
                        problem(answer, 403, "forbidden")
        assert asked > 80

    def test_a_token_of_one_workspace_opens_no_other(self, shared: Daemon, workspace) -> None:
        workspace.put_link("spring")
        other = shared.workspace(workspace.name + "-b")
        other.put_link("spring")
        token = shared.rest.post(
            "/v1/admin/tokens", {"name": "bound", "scopes": ["admin"], "workspace": workspace.name}
        )["token"]
        rest = shared.rest.with_token(token)
        assert rest.request("GET", f"{workspace.base}/links").status == 200
        problem(rest.request("GET", f"{other.base}/links"), 403, "forbidden")
        problem(rest.request("GET", "/v1/admin/audit"), 403, "forbidden")
        assert [entry["id"] for entry in rest.get("/v1/workspaces")["workspaces"]] == [workspace.name]
        problem(rest.request("PUT", f"/v1/workspaces/{other.name}", {"plan": "pro"}), 403, "forbidden")

    def test_a_revoked_or_expired_token_is_worthless_at_once(self, shared: Daemon) -> None:
        made = shared.rest.post("/v1/admin/tokens", {"name": "short", "scopes": ["viewer"]})
        rest = shared.rest.with_token(made["token"])
        assert rest.request("GET", "/v1/workspaces").status == 200
        shared.rest.delete(f"/v1/admin/tokens/{made['id']}")
        problem(rest.request("GET", "/v1/workspaces"), 401, "unauthenticated")
        old = shared.rest.post(
            "/v1/admin/tokens", {"name": "old", "scopes": ["viewer"], "expires_at": rfc3339(hours=1)}
        )
        problem(shared.rest.with_token(old["token"]).request("GET", "/v1/workspaces"), 401, "unauthenticated")

    @pytest.mark.parametrize(
        "header", ["", "Bearer", "Bearer x", "Basic abc", "Bearer mpt_" + "A" * 43, "Bearer " + "x" * 9000]
    )
    def test_a_wrong_authorization_header_is_401(self, shared: Daemon, header: str) -> None:
        answer = Rest(shared.url).request("GET", "/v1/workspaces", headers={"Authorization": header})
        assert answer.status in (401, 431), answer.body
        if answer.status == 401:
            problem(answer, 401, "unauthenticated")

    def test_each_mutating_call_leaves_an_audit_row(self, shared: Daemon, workspace, sandbox) -> None:
        """EXT-09, decisions 37"""
        before = shared.rest.get("/v1/admin/audit?limit=1")["entries"]
        last = before[0]["id"] if before else 0
        workspace.put_link("spring", title="x")
        shared.rest.put(f"/v1/workspaces/{workspace.name}", {"plan": None})
        shared.rest.put(f"{workspace.base}/members/jo", {"crm_opt_out": True})
        shared.rest.put("/v1/admin/plans", {"plans": {}})
        shared.rest.post(f"{workspace.base}/links", {"links": [{"id": "spring", "title": "y"}]})
        workspace.connect(thresholds=[2])
        workspace.patch(thresholds=[2, 3])
        shared.rest.put("/v1/admin/apps/pipedrive", {"client_id": "x", "client_secret": "y"})
        shared.rest.post(f"{workspace.base}/integrations/pipedrive/authorize", {})
        shared.rest.post("/v1/admin/oauth/adopt")
        shared.rest.delete("/v1/admin/apps/pipedrive")
        sandbox.fault("status", status=400, times=0)
        workspace.clicks("spring", 2)
        workspace.tick()
        [dead] = workspace.deliveries(state="dead")
        sandbox.clear_faults()
        assert shared.rest.request("POST", f"{workspace.base}/deliveries/{dead['id']}/replay").status == 202
        shared.rest.post(f"{workspace.base}/deliveries/replay", {"state": "dead"})
        # A plugin that provisions nothing answers so, and that is a change that was asked for.
        shared.rest.put("/v1/admin/apps/pipedrive", {"client_id": "audited", "client_secret": "audited-secret"})
        for place in (f"{workspace.base}/integrations/pipedrive", "/v1/admin/apps/pipedrive"):
            assert shared.rest.post(f"{place}/provision", {}) == {"objects": []}
            assert shared.rest.post(f"{place}/deprovision", {"objects": ["x"]}) == {"objects": []}
        shared.rest.delete("/v1/admin/apps/pipedrive")
        shared.rest.delete(f"{workspace.base}/contacts/jo")
        made = shared.rest.post("/v1/admin/tokens", {"name": "audited", "scopes": ["viewer"]})
        shared.rest.delete(f"/v1/admin/tokens/{made['id']}")
        shared.rest.post("/v1/admin/reload")
        shared.cli("keys", "new")
        shared.rest.post("/v1/admin/keys/reload")
        shared.rest.post("/v1/admin/keys/rewrap")
        keys = shared.rest.get("/v1/admin/keys")
        shared.cli("keys", "drop", next(key["id"] for key in keys["keys"] if key["id"] != keys["current_key"]))
        copies = shared.directory / "copies"
        copies.mkdir(exist_ok=True)
        shared.cli("backup", str(copies / f"{workspace.name}.db"))
        shared.rest.delete(f"{workspace.base}/integrations/pipedrive")
        rows = [entry for entry in listed(shared.rest, "/v1/admin/audit", "entries") if entry["id"] > last]
        actions = {entry["action"] for entry in rows}
        operations = [
            operation
            for methods in shared.rest.get("/openapi.json")["paths"].values()
            for method, operation in methods.items()
            if method != "get"
        ]
        # Clicks and forms are data, not changes; a picker with a trial credential changes nothing.
        unaudited = {"events.post", "forms.post", "integrations.options.trial"}
        # Needs a vendor; test_oauth.py looks at its row.
        unaudited.add("integrations.authorize.complete")
        expected = {operation["operationId"] for operation in operations} - unaudited
        assert actions >= expected, f"no audit row for {expected - actions}"
        assert all(entry["actor"] and entry["at"] and entry["target"] for entry in rows), rows
        assert VENDOR_TOKEN not in json.dumps(rows) and made["token"] not in json.dumps(rows)

    def test_a_refused_call_leaves_no_audit_row(self, shared: Daemon, workspace) -> None:
        workspace.put_link("spring")
        count = len(listed(shared.rest, "/v1/admin/audit", "entries"))
        assert shared.rest.request("PUT", f"{workspace.base}/links/spring", {"colour": "red"}).status == 422
        assert len(listed(shared.rest, "/v1/admin/audit", "entries")) == count


class TestProblems:
    def test_errors_are_problem_documents(self, shared: Daemon, workspace) -> None:
        workspace.put_link("spring")
        rest = shared.rest
        problem(rest.request("GET", "/v1/nothing"), 404, "not_found")
        problem(rest.request("GET", f"{workspace.base}/links/none"), 404, "not_found")
        problem(rest.request("GET", f"{workspace.base}/deliveries/dlv_none"), 404, "not_found")
        problem(rest.request("POST", f"{workspace.base}/deliveries/dlv_none/replay"), 404, "not_found")
        answer = rest.request("PATCH", "/v1/workspaces")
        problem(answer, 405, "method_not_allowed")
        assert "GET" in answer.headers["allow"]
        problem(
            rest.request("PUT", f"{workspace.base}/links/spring", b"{not json", {"Content-Type": "application/json"}),
            400,
            "bad_request",
        )
        problem(
            rest.request("PUT", f"{workspace.base}/links/spring", b"[]", {"Content-Type": "application/json"}),
            400,
            "bad_request",
        )
        problem(rest.request("GET", f"{workspace.base}/links?limit=0"), 400, "bad_request")
        problem(rest.request("GET", f"{workspace.base}/links?limit=many"), 400, "bad_request")
        problem(rest.request("GET", f"{workspace.base}/deliveries?state=lost"), 400, "bad_request")
        problem(rest.request("GET", f"{workspace.base}/deliveries?since=yesterday"), 400, "bad_request")
        for path in (f"{workspace.base}/links", f"{workspace.base}/deliveries", "/v1/admin/audit"):
            # A cursor is a place in the order: one that was made up gives a page or a refusal, never a failure.
            assert rest.request("GET", f"{path}?cursor=made-up%00").status in (200, 400, 404)
        answer = rest.request("PUT", f"{workspace.base}/links/spring", {"title": "x" * (2 << 20)})
        problem(answer, 413, "body_too_large")
        document = problem(
            rest.request("PUT", f"{workspace.base}/links/spring", {"flags": ["tset"], "tags": "a", "x": 1}),
            422,
            "validation_failed",
        )
        assert {error["pointer"] for error in document["errors"]} == {"/flags", "/tags", "/x"}
        problem(
            rest.request("POST", f"{workspace.base}/integrations/nothing", {"credentials": {"a": "b"}}),
            503,
            "plugin_unavailable",
        )
        problem(
            rest.request("POST", f"{workspace.base}/integrations/Bad Name!".replace(" ", "%20"), {}), 400, "bad_request"
        )

    def test_hostile_paths_and_headers_harm_nothing(self, shared: Daemon) -> None:
        for path in (
            "/%2e%2e/%2e%2e/etc/passwd",
            "/v1/workspaces/%00/links",
            "/v1/workspaces/" + "a" * 5000 + "/links",
            "//",
            "/v1/workspaces/a%0ab/links",
        ):
            answer = shared.rest.request("GET", path)
            assert 400 <= answer.status < 500, (path, answer.status, answer.body)
            assert b"root:" not in answer.body
        assert shared.rest.request("GET", "/healthz").status == 200

    def test_lists_page_through_everything_once(self, shared: Daemon, workspace) -> None:
        for number in range(12):
            workspace.put_link(f"l{number:02d}")
        seen, cursor = [], None
        while True:
            page = shared.rest.get(f"{workspace.base}/links?limit=5" + (f"&cursor={cursor}" if cursor else ""))
            assert len(page["links"]) <= 5
            seen += [link["id"] for link in page["links"]]
            cursor = page["next"]
            if not cursor:
                break
        assert sorted(seen) == [f"l{number:02d}" for number in range(12)]


class TestMetrics:
    def test_metrics_agree_with_the_truth(self, own) -> None:
        """OBS-07"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.connect(thresholds=[2])
        workspace.clicks("a", 2)
        workspace.clicks("b", 2)
        body = b'{"id":"acme-1","ts":"2026-01-01T00:00:00Z","link":"a"}\n{bad'
        daemon.rest.post(f"{workspace.base}/events", body, headers={"Content-Type": "application/x-ndjson"})
        workspace.tick()
        daemon.sandbox.fault("status", status=503, times=0)
        workspace.clicks("c", 2)
        workspace.tick()
        metrics = daemon.metrics()
        assert metrics['milepost_events_total{result="accepted"}'] == 6
        assert metrics['milepost_events_total{result="duplicate"}'] == 1
        assert metrics['milepost_events_total{result="rejected"}'] == 1
        assert metrics['milepost_deliveries_total{integration="pipedrive",state="delivered"}'] == 2
        assert metrics['milepost_queue_depth{integration="pipedrive",state="retrying",workspace="acme"}'] == 1
        assert metrics['milepost_queue_oldest_age_seconds{integration="pipedrive",workspace="acme"}'] > 0
        assert metrics['milepost_dead_letters{integration="pipedrive",workspace="acme"}'] == 0
        assert metrics['milepost_plugin_up{plugin="pipedrive"}'] == 1
        assert metrics["milepost_store_writable"] == 1
        assert metrics["milepost_tick_duration_seconds_count"] >= 2
        attempts = sum(value for name, value in metrics.items() if name.startswith("milepost_delivery_attempts_total"))
        assert attempts == 2 + 3
        problem(Rest(daemon.url).request("GET", "/metrics"), 401, "unauthenticated")
        text = daemon.rest.request("GET", "/metrics").expect(200).decode()
        for line in text.splitlines():
            assert line.startswith("#") or re.fullmatch(
                r'[a-z_]+(\{[a-z]+="(?:[^"\\]|\\.)*"(,[a-z]+="(?:[^"\\]|\\.)*")*\})? \S+', line.replace('le="', 'le="')
            ), line


class TestPrivacy:
    def test_a_contact_is_exported_and_erased_and_totals_stay(self, own) -> None:
        """PRV-01, PRV-02"""
        daemon = own().start()
        workspace = daemon.workspace("acme")
        workspace.clicks("spring", 3, contact_id="jo@example.org", referrer="https://trace.example/jo")
        workspace.clicks("spring", 2)
        daemon.rest.post(
            f"{workspace.base}/forms",
            {"ts": rfc3339(), "contact_id": "jo@example.org", "email": "jo@example.org", "fields": {"a": "b"}},
        )
        exported = json.loads(daemon.cli("export", "contact", "jo@example.org", "-w", "acme").out)
        assert len(exported["clicks"]) == 3 and len(exported["forms"]) == 1, exported
        erased = daemon.cli("erase", "contact", "jo@example.org", "-w", "acme", "--yes", "--json").json
        assert erased["clicks_erased"] == 3 and erased["forms_erased"] == 1, erased
        assert workspace.link("spring")["totals"]["all"] == 5
        again = json.loads(daemon.cli("export", "contact", "jo@example.org", "-w", "acme").out)
        assert again["clicks"] == [] and again["forms"] == []
        assert daemon.rest.get("/v1/admin/audit-totals")["mismatches"] == []
        daemon.restart()
        daemon.stop()
        assert not [
            path for path in daemon.data.rglob("*") if path.is_file() and b"trace.example/jo" in path.read_bytes()
        ]


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
        assert (
            schedule["name"] == "click_threshold_hook" and schedule["result"] == "ok" and schedule["overdue"] is False
        )
        assert schedule["last_run_at"] and schedule["next_run_at"] and schedule["duration_ms"] >= 0
        healthy = daemon.cli("doctor", "--config", str(daemon.config_file), "--json", check=False)
        assert healthy.code == 0, healthy.out + healthy.err
        daemon.sandbox.revoke()
        workspace.clicks("spring", 100)
        workspace.tick()
        sick = daemon.cli("doctor", "--config", str(daemon.config_file), check=False)
        assert sick.code == 1 and "needs_reauth" in sick.out + sick.err and "token" in sick.out, sick.out
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
            "deliveries.replay.bulk": ["replay", "--state", "dead"],
            "forms.post": ["forms"],
            "contacts.export": ["export", "contact", "jo"],
            "contacts.erase": ["erase", "contact", "jo", "--yes"],
            "admin.tick": ["tick"],
            "admin.plugins": ["plugins"],
            "admin.reload": ["reload"],
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
            "admin.audit_totals": ["audit", "--totals"],
            "admin.backup": ["backup", "/x"],
        }
        for_machines = {"healthz", "readyz", "openapi", "metrics", "oauth.callback"}
        missing = set(operations) - set(commands) - for_machines
        assert not missing, f"routes without a command: {missing}"
        unknown = set(commands) - set(operations)
        assert not unknown, f"commands whose route is not there: {unknown}"
        failed = []
        with recording_server({}) as (url, asked):
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
