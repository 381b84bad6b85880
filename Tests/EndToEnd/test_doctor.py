# SPDX-License-Identifier: Apache-2.0
"""`milepost doctor` with a real daemon: one seeded fault a test, and what it says of it; and a healthy daemon."""

from __future__ import annotations

import datetime
import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doctor_steps import certificates, trusting, vendor  # noqa: F401 - a fixture among them
from hubspot_steps import HUB, Installation, hubspot  # noqa: F401 - the fixture
from oauth_steps import installed  # noqa: F401 - the fixture
from test_hubspot import Portal

from harness import DIST, Daemon, Run, rfc3339, run_cli, wait_for

pytestmark = pytest.mark.timeout(180)

AREAS = {"configuration", "permissions", "key", "clock", "disk", "plugins", "connections", "webhooks", "dns"}


def doctor(daemon: Daemon, *options: str, **env: str) -> tuple[Run, list[dict[str, Any]]]:
    """The page that a person reads, and all findings."""
    config = ("--config", str(daemon.config_file), *options)
    page = daemon.cli("doctor", *config, check=False, **env)
    told = daemon.cli("doctor", *config, "--json", check=False, **env)
    assert told.code == page.code, (told, page)
    assert told.json["healthy"] is (told.code == 0)
    return page, told.json["findings"]


def the_one_problem(daemon: Daemon, code: str, area: str, reference: str | None = None, **env: str) -> dict[str, Any]:
    """Doctor names this fault and no other, with cause and cure, and ends with 1."""
    page, findings = doctor(daemon, **env)
    problems = [entry for entry in findings if entry["severity"] == "problem"]
    assert [entry["code"] for entry in problems] == [code], problems
    [found] = problems
    assert page.code == 1, page
    assert found["area"] == area and found["reference"] == reference, found
    assert found["what"] in page.out and found["cause"] and found["cure"].splitlines()[0] in page.out, page.out
    assert "problems: 1" in page.out.splitlines()[-1], page.out
    if reference:
        assert f"{reference} in the administrator's guide" in page.out, page.out
    return found


@pytest.fixture
def healthy(own: Callable[..., Daemon]) -> Daemon:
    """Connected, with a tick behind it."""
    daemon = own().start()
    daemon.workspace("acme").connect(thresholds=[2])
    daemon.tick()
    return daemon


def rewrite(daemon: Daemon, **settings: Any) -> None:
    """Changes the configuration's file under the daemon, as an administrator does before he reloads."""
    daemon.settings.update(settings)
    daemon.write_config()


class TestHealthy:
    def test_it_looks_at_everything_and_finds_nothing_wrong(self, healthy: Daemon) -> None:
        """TRB-01 to TRB-09: none of them is there"""
        page, findings = doctor(healthy)
        assert page.code == 0, page.out
        assert [entry for entry in findings if entry["severity"] == "problem"] == []
        assert {entry["area"] for entry in findings if entry["severity"] == "ok"} >= AREAS, findings
        assert page.out.splitlines()[-1].startswith("nothing is wrong") and "TRB" not in page.out, page.out
        assert any(entry["code"] == "clock_agrees" for entry in findings), "nobody's clock was compared with ours"

    def test_it_asks_vendors_without_credentials_and_not_at_all_when_it_is_offline(self, healthy: Daemon) -> None:
        seen: list[tuple[str, dict[str, str]]] = []
        with vendor(seen) as url:
            rewrite_endpoint(healthy, url)
            _, findings = doctor(healthy, "--offline")
            assert seen == [] and not [entry for entry in findings if entry["area"] in ("dns", "tls")]
            doctor(healthy)
        assert {method for method, _ in seen} == {"HEAD"}, seen
        assert not any(name in headers for _, headers in seen for name in ("authorization", "x-api-token")), seen

    def test_without_a_daemon_it_says_so_and_looks_at_the_rest(self, healthy: Daemon) -> None:
        page, findings = doctor(healthy, MILEPOST_URL="http://127.0.0.1:1")
        assert page.code == 0 and "the daemon could not be asked" in page.out, page.out
        assert {entry["area"] for entry in findings if entry["severity"] == "ok"} >= AREAS - {"connections"}
        [told] = [entry for entry in findings if entry["code"] == "unreachable"]
        assert "milepostd started" in told["cure"] and "MILEPOST_URL" in told["cure"], told
        assert "milepost doctor" not in told["cause"] + told["cure"], told


class TestTroubles:
    """Section Y5: each row of the table from a fault of its own"""

    def test_a_revoked_token(self, healthy: Daemon) -> None:
        """TRB-01"""
        healthy.sandbox.revoke()
        workspace = healthy.workspace("acme")
        workspace.clicks("spring", 2)
        workspace.tick()
        found = the_one_problem(healthy, "needs_reauth", "connections", "TRB-01")
        assert "401" in found["cause"] and "invalid" in found["cause"]
        assert "Make a new token" in found["cure"] and "milepost connect pipedrive -w acme" in found["cure"]

    def test_a_user_without_the_right(self, healthy: Daemon) -> None:
        """TRB-02"""
        workspace = healthy.workspace("acme")
        workspace.clicks("spring", 2)
        body = {"success": False, "error": "You do not have permissions to do this", "error_info": ""}
        healthy.sandbox.fault("status", status=403, times=0, body=body)
        workspace.tick()
        found = the_one_problem(healthy, "permission", "connections", "TRB-02")
        assert "403" in found["cause"] and "lacks a right" in found["cause"]
        assert "admin access" in found["cure"]

    def test_forms_without_an_address(self, healthy: Daemon) -> None:
        """TRB-03"""
        forms = [
            {"ts": rfc3339(), "gclid": "g1", "contact_id": "", "email": ""}, {"ts": rfc3339(), "gclid": "g2"},
            {"ts": rfc3339(), "gclid": "g3", "email": "ada@example.test"},
            {"ts": rfc3339(), "gclid": "g4", "contact_id": "7"},
        ]
        assert healthy.rest.post("/v1/workspaces/acme/forms", forms)["accepted"] == 4
        found = the_one_problem(healthy, "email_missing", "connections", "TRB-03")
        assert "acme: 2 of the newest forms" in found["what"] and "filtered out" in found["what"], found
        assert "e-mail address" in found["cure"]

    def test_a_field_that_is_not_there(self, healthy: Daemon) -> None:
        """TRB-04"""
        healthy.workspace("acme").patch(link_field="No such field")
        found = the_one_problem(healthy, "field_unknown", "connections", "TRB-04")
        assert "No such field" in found["what"] and "neither the key nor the label" in found["cause"]
        assert "40-character key" in found["cure"] and "milepost options pipedrive" in found["cure"]

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("http://clicks.example.com", "not https"), ("https://192.168.1.20", "not public"),
            ("https://nowhere.invalid", "cannot be resolved"),
        ])
    def test_an_address_that_the_vendor_does_not_reach(self, healthy: Daemon, url: str, why: str) -> None:
        """TRB-05"""
        rewrite(healthy, public_url=url)
        found = the_one_problem(healthy, "webhook_unreachable", "webhooks", "TRB-05")
        assert url in found["what"] and why in found["cause"], found
        assert "https, public" in found["cure"] and "firewall" in found["cure"]

    def test_contacts_that_share_an_address(self, healthy: Daemon) -> None:
        """TRB-06"""
        forms = [
            {"ts": rfc3339(), "contact_id": contact, "email": email}
            for contact, email in [("11", "Ada@example.test"), ("12", "ada@example.test"), ("13", "eve@example.test")]
        ]
        assert healthy.rest.post("/v1/workspaces/acme/forms", forms)["accepted"] == 3
        found = the_one_problem(healthy, "duplicate_person", "connections", "TRB-06")
        assert "11, 12" in found["what"] and "13" not in found["what"], found
        assert "ada@" not in json.dumps(found).lower(), "an address of a person is not repeated"
        assert "Merge" in found["cure"]

    def test_a_vendor_that_asks_for_patience(self, healthy: Daemon) -> None:
        """TRB-07"""
        workspace = healthy.workspace("acme")
        workspace.clicks("spring", 2)
        healthy.sandbox.fault("status", status=429, times=0, headers={"retry-after": "1800", "x-ratelimit-reset": "1800"})
        workspace.tick()
        [delivery] = workspace.deliveries(state="retrying")
        found = the_one_problem(healthy, "rate_limited", "connections", "TRB-07")
        assert delivery["next_attempt_at"] in found["what"] and "429" in found["cause"], found
        assert "resumes by itself at " + delivery["next_attempt_at"] in found["cure"]

    def test_a_broken_chain_of_refresh_tokens(self, hubspot: Any) -> None:  # noqa: F811
        """TRB-08"""
        it: Installation = hubspot()
        it.set_app()
        it.make_template()
        it.install()
        it.provision()
        it.contacts("601")
        it.control("oauth", {"end": "uninstall", "account": HUB})
        it.clicks("601", 1)
        wait_for("somebody is needed", lambda: it.shown()["state"] == "needs_reauth")
        found = the_one_problem(it.daemon, "needs_reauth", "connections", "TRB-08")
        assert "chain of refresh tokens" in found["cause"], found
        assert "Install it again" in found["cure"] and "milepost connect hubspot --oauth" in found["cure"]

    def test_a_property_that_takes_no_values_any_more(self, own: Callable[..., Daemon]) -> None:
        """TRB-09"""
        portal = Portal(own)
        portal.connect(portal.token("timeline"))
        portal.provision()
        assert doctor(portal.daemon)[0].code == 0
        definition = {
            "object_type": "contacts", "name": "milepost_last_utm_campaign", "type": "string", "field_type": "text"}
        portal.control("properties", {**definition, "read_only": True})
        found = the_one_problem(portal.daemon, "setting_property_read_only", "connections", "TRB-09")
        assert "milepost_last_utm_campaign" in found["what"] and "last campaign looks frozen" in found["cause"]

    def test_a_dead_letter_is_named_with_the_way_back(self, healthy: Daemon) -> None:
        """TRB-04: what a refused field makes of a delivery, or any other refusal"""
        workspace = healthy.workspace("acme")
        workspace.clicks("spring", 2)
        body = {"success": False, "error": "Validation failed", "error_info": ""}
        healthy.sandbox.fault("status", status=400, times=0, body=body)
        workspace.tick()
        [dead] = workspace.deliveries(state="dead")
        found = the_one_problem(healthy, dead["reason_code"], "connections")
        assert "dead letters, 1" in found["what"] and dead["reason"] == found["cause"], found
        assert f"milepost replay --integration pipedrive --code {dead['reason_code']} -w acme" in found["cure"]


class TestSurroundings:
    def test_a_misspelt_setting(self, healthy: Daemon) -> None:
        """EXT-15"""
        rewrite(healthy, shedule={"threshold_interval": "5m"})
        page, findings = doctor(healthy)
        [found] = [entry for entry in findings if entry["severity"] == "problem"]
        assert page.code == 1 and (found["area"], found["code"]) == ("configuration", "configuration")
        assert "shedule" in found["cause"] and "schedule" in found["cause"], found
        assert "milepost config check" in found["cure"]

    @pytest.mark.parametrize(
        ("path", "mode", "code"),
        [("data", 0o755, "data_dir_mode"), ("keys/kek", 0o644, "kek_mode"), ("milepost.yaml", 0o666, "configuration_mode")])
    def test_a_mode_that_lets_others_in(self, healthy: Daemon, path: str, mode: int, code: str) -> None:
        (healthy.directory / path).chmod(mode)
        found = the_one_problem(healthy, code, "permissions")
        assert path in found["what"] and found["cure"].startswith("chmod"), found
        command = found["cure"].split()
        subprocess.run([command[0], command[1], command[2]], check=True)
        assert doctor(healthy)[0].code == 0, "the cure cures"

    def test_a_plugin_that_others_may_write(self, healthy: Daemon) -> None:
        plugins = healthy.directory / "plugins"
        shutil.copytree(DIST / "plugins", plugins)
        (plugins / "pipedrive.so").chmod(0o666)
        rewrite(healthy, plugin_dirs=[str(plugins)])
        found = the_one_problem(healthy, "plugin_untrusted", "permissions")
        assert "pipedrive" in found["what"] and "666" in found["cause"] and "chmod" in found["cure"]

    def test_a_key_that_does_not_fit(self, healthy: Daemon) -> None:
        other = Daemon(healthy.directory / "other")
        other.init()
        ring = healthy.directory / "keys" / "kek"
        right = ring.read_bytes()
        healthy.stop()
        ring.write_bytes((other.directory / "keys" / "kek").read_bytes())
        healthy.start()
        page, findings = doctor(healthy)
        [found] = [entry for entry in findings if entry["code"] == "kek_mismatch"]
        [lost] = [line.split()[1].decode() for line in right.splitlines() if line.startswith(b"mpkek1")]
        assert page.code == 1 and found["area"] == "key" and lost in found["what"], found
        assert "another one" in found["cause"] and "milepost keys reload" in found["cure"]
        ring.write_bytes(right)
        healthy.cli("keys", "reload")
        assert doctor(healthy)[0].code == 0, "the cure cures"

    def test_a_ring_that_is_none(self, healthy: Daemon) -> None:
        (healthy.directory / "keys" / "kek").write_text("hunter2\n")
        found = the_one_problem(healthy, "kek_malformed", "key")
        assert "hunter2" not in json.dumps(found) and "backup" in found["cure"]

    @pytest.mark.parametrize(("hours", "side"), [(2, "behind"), (-2, "ahead of")])
    def test_a_clock_that_is_not_the_vendors(self, healthy: Daemon, hours: int, side: str) -> None:
        with vendor(offset=datetime.timedelta(hours=hours)) as url:
            rewrite_endpoint(healthy, url)
            found = the_one_problem(healthy, "clock_askew", "clock")
        assert side in found["what"] and "127.0.0.1" in found["what"], found
        seconds = int(found["what"].split(" is ")[1].split()[0])
        assert 7195 <= seconds <= 7205, found
        assert "timedatectl" in found["cure"]

    @pytest.mark.parametrize("answer", ["another page", "nothing"])
    def test_a_port_that_another_program_has(self, healthy: Daemon, answer: str) -> None:
        """The daemon cannot start, and doctor says why"""
        healthy.stop()
        with socket.create_server(("127.0.0.1", 0)) as silent, vendor() as page:
            port = silent.getsockname()[1] if answer == "nothing" else int(page.rsplit(":", 1)[1])
            rewrite(healthy, listen=f"127.0.0.1:{port}")
            found = the_one_problem(healthy, "port_taken", "configuration", MILEPOST_URL=f"http://127.0.0.1:{port}")
        assert f"127.0.0.1:{port} is in use" in found["what"] and "another program" in found["cause"], found
        assert "ss -ltnp" in found["cure"] and "'listen'" in found["cure"], found

    def test_a_port_that_the_daemon_has_itself(self, healthy: Daemon) -> None:
        rewrite(healthy, listen=healthy.url.removeprefix("http://"))
        for url in (healthy.url, "http://127.0.0.1:1"):
            page, findings = doctor(healthy, MILEPOST_URL=url)
            [port] = [entry for entry in findings if entry["code"] == "port"]
            assert page.code == 0 and port["severity"] == "ok" and "in use, by" in port["what"], port

    def test_a_disk_that_gets_full(self, healthy: Daemon) -> None:
        """The threshold is a setting, so that a test need not fill a disk"""
        rewrite(healthy, limits={"least_free_disk": "1048576GiB"})
        page, findings = doctor(healthy)
        [found] = [entry for entry in findings if entry["severity"] == "problem"]
        assert page.code == 1 and (found["area"], found["code"]) == ("disk", "disk_space"), found
        assert "limits.least_free_disk is 1048576GiB" in found["cause"] and "make room" in found["cure"]
        assert "limits.least_free_disk" in healthy.cli("reload", "--json").json["applied"]
        told = [entry for entry in healthy.rest.get("/v1/admin/status")["problems"] if entry["code"] == "disk_low"]
        assert len(told) == 1 and "Make room" in told[0]["cure"], "the daemon says it, too"

    def test_a_plugin_that_does_not_load(self, healthy: Daemon) -> None:
        plugins = healthy.directory / "plugins"
        shutil.copytree(DIST / "plugins", plugins)
        library = (plugins / "custom-hook.so").read_bytes()
        (plugins / "custom-hook.so").write_bytes(library[: len(library) // 2])
        rewrite(healthy, plugin_dirs=[str(plugins)])
        healthy.settings["plugins"]["custom-hook"] = {"enabled": True}
        healthy.write_config()
        healthy.restart()
        found = the_one_problem(healthy, "plugin_refused", "plugins")
        assert "custom-hook" in found["what"] and "milepost reload" in found["cure"], found

    def test_a_plugin_that_is_not_installed(self, healthy: Daemon) -> None:
        healthy.settings["plugins"]["absent-crm"] = {"enabled": True}
        healthy.write_config()
        found = the_one_problem(healthy, "plugin_missing", "plugins")
        assert "absent-crm" in found["what"] and "install its package" in found["cure"]

    @pytest.mark.parametrize("fault", ["gone", "cut"])
    def test_a_plugin_of_a_connection_is_named_once(self, healthy: Daemon, fault: str) -> None:
        """Not by the connection that waits for it, too, and by no vendor that does not answer"""
        plugins = healthy.directory / "plugins"
        shutil.copytree(DIST / "plugins", plugins)
        library = plugins / "pipedrive.so"
        content = library.read_bytes()
        library.unlink() if fault == "gone" else library.write_bytes(content[: len(content) // 2])
        rewrite(healthy, plugin_dirs=[str(plugins)])
        healthy.restart()
        code = "plugin_missing" if fault == "gone" else "plugin_refused"
        assert "pipedrive" in the_one_problem(healthy, code, "plugins")["what"]
        told = [entry for entry in doctor(healthy)[1] if entry["severity"] == "warning"]
        assert [entry["code"] for entry in told if entry["area"] == "connections"] == [], told

    def test_a_vendor_that_nobody_answers_for(self, healthy: Daemon) -> None:
        rewrite_endpoint(healthy, "http://127.0.0.1:9")
        found = the_one_problem(healthy, "vendor_unreachable", "connections")
        assert "plugins.pipedrive.endpoints.api" in found["what"] and "firewall" in found["cure"], found

    def test_a_name_that_does_not_resolve(self, healthy: Daemon) -> None:
        rewrite_endpoint(healthy, "https://crm.invalid")
        found = the_one_problem(healthy, "dns_unresolved", "dns")
        assert "crm.invalid" in found["what"] and "plugins.pipedrive.endpoints.api" in found["what"]
        assert "getent hosts crm.invalid" in found["cure"]

    def test_a_hook_whose_receiver_has_no_name(self, healthy: Daemon) -> None:
        """Addresses in a connection's settings are looked at as those of the configuration are"""
        healthy.settings["plugins"]["custom-hook"] = {"enabled": True}
        healthy.write_config()
        healthy.restart()
        workspace = healthy.workspace("acme")
        body = {"credentials": {"signing_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "url": "https://hooks.invalid/in"}
        workspace.rest.post(f"{workspace.base}/integrations/custom-hook", body)
        found = the_one_problem(healthy, "dns_unresolved", "dns")
        assert "hooks.invalid" in found["what"] and "acme/custom-hook" in found["what"], found


def rewrite_endpoint(daemon: Daemon, url: str) -> None:
    """In the file only: the daemon goes on with the sandbox."""
    daemon.settings["plugins"]["pipedrive"]["endpoints"] = {"api": url}
    daemon.write_config()


# ------------------------------------------------------------------------------------------------------------------ TLS


class TestCertificates:
    def test_one_that_nobody_vouches_for(self, healthy: Daemon, certificates: dict[str, Path]) -> None:  # noqa: F811
        with vendor(certificate=certificates["good"]) as url:
            rewrite_endpoint(healthy, url)
            found = the_one_problem(healthy, "certificate_untrusted", "tls")
        assert "localhost" in found["what"] and "certificate" in found["cause"], found
        assert "update-ca-certificates" in found["cure"]

    def test_one_that_has_expired(self, healthy: Daemon, certificates: dict[str, Path]) -> None:  # noqa: F811
        with vendor(certificate=certificates["expired"]) as url:
            rewrite_endpoint(healthy, url)
            run = trusting(certificates["expired"], healthy)
        [found] = [entry for entry in run.json["findings"] if entry["severity"] == "problem"]
        assert run.code == 1 and found["code"] == "certificate_expired" and found["area"] == "tls", found
        assert "expired" in found["cause"] and "renew" in found["cure"]

    def test_one_that_is_trusted(self, healthy: Daemon, certificates: dict[str, Path]) -> None:  # noqa: F811
        with vendor(certificate=certificates["good"]) as url:
            rewrite_endpoint(healthy, url)
            run = trusting(certificates["good"], healthy)
        assert run.code == 0, run.out
        assert [entry["code"] for entry in run.json["findings"] if entry["area"] == "tls"] == ["tls"]

    @pytest.mark.parametrize("answer", ["daemon", "stranger"])
    def test_the_way_in_from_outside(self, healthy: Daemon, certificates: dict[str, Path], answer: str) -> None:  # noqa: F811
        """TRB-05: the self-test finds this daemon behind its public address, or says that somebody else answers"""
        body = b'{"status":"ok","role":"active"}' if answer == "daemon" else b"<html>it works</html>"
        with vendor(certificate=certificates["good"], body=body) as url:
            rewrite(healthy, public_url=url.replace("localhost", "hooks.example.com"))
            run = trusting(certificates["good"], healthy, hosts="127.0.0.1 localhost hooks.example.com\n")
        webhooks = {entry["code"]: entry for entry in run.json["findings"] if entry["area"] == "webhooks"}
        if answer == "daemon":
            assert run.code == 0 and webhooks["public_url"]["severity"] == "ok", run.out
        else:
            found = webhooks["webhook_unreachable"]
            assert run.code == 1 and found["reference"] == "TRB-05" and "no milepostd" in found["cause"], run.out


# -------------------------------------------------------------------------------------------------------------- restoring


def test_a_restore_warns_about_refresh_tokens_and_doctor_says_what_to_do(installed: Any) -> None:  # noqa: F811
    """OAU-07, EXT-18, TRB-08: backup, the tokens rotate, restore; nothing is sent with what may be dead"""
    it = installed(expires_in=4)
    it.connect(thresholds=[1])
    backup = it.daemon.directory / "copy.db"
    it.daemon.cli("backup", str(backup))
    wait_for("the vendor rotated", lambda: it.tokens()["refreshes"] >= 2)
    it.daemon.stop()
    restored = run_cli("restore", str(backup), "--config", str(it.daemon.config_file), env=it.daemon.environment())
    said = " ".join(restored.out.split())
    assert "1 connection holds refresh tokens" in said and "may have been replaced since the backup" in said, said
    assert "milepost connect … --oauth" in said and "milepost app adopt" in said and "milepost doctor" in said, said
    sent = len(it.vendor.refreshes)
    it.daemon.start()
    found = the_one_problem(it.daemon, "needs_reauth", "connections", "TRB-08")
    assert "restored or copied credentials" in found["what"] and "restored or copied" in found["cause"], found
    assert "milepost connect pipedrive --oauth -w acme" in found["cure"] and "milepost app adopt" in found["cure"], found
    it.workspace.clicks("spring", 1)
    it.workspace.tick()
    assert len(it.vendor.refreshes) == sent and it.vendor.reused == [], "nothing was sent with what may be dead"
    it.install()
    wait_for("work resumes", lambda: len(it.daemon.sandbox.deals("spring")) == 1)
    assert doctor(it.daemon)[0].code == 0


def test_a_restore_without_refresh_tokens_warns_of_none(own: Callable[..., Daemon]) -> None:
    """OAU-07: a warning that always comes is none"""
    daemon = own().start()
    daemon.workspace("acme").connect()
    backup = daemon.directory / "copy.db"
    daemon.cli("backup", str(backup))
    daemon.stop()
    restored = run_cli("restore", str(backup), "--config", str(daemon.config_file), env=daemon.environment())
    assert "refresh tokens" not in restored.out and "milepost status" in restored.out, restored.out
