# SPDX-License-Identifier: Apache-2.0
"""Real clicks become deals: the public 1.USA.gov file through the real daemon, worker, plugin and sandbox."""

import pytest

from harness import CLICK_FILE, Daemon, Workspace

pytestmark = pytest.mark.skipif(
    not CLICK_FILE.exists(), reason=f"{CLICK_FILE} is not there; MILEPOST_SHARED names its folder"
)


def imported(workspace: Workspace) -> dict:
    return workspace.daemon.cli(
        "import", "clicks", str(CLICK_FILE), "--format", "bitly", "-w", workspace.name, "--json", timeout=90
    ).json


def clicks_in(deals: list[dict], workspace: Workspace) -> list[int]:
    """The total of each deal's link, largest first."""
    links = {delivery["remote_id"]: delivery["link"] for delivery in workspace.deliveries()}
    return sorted((workspace.link(links[str(deal["id"])])["totals"]["all"] for deal in deals), reverse=True)


def recount_agrees(daemon: Daemon) -> bool:
    return daemon.rest.get("/v1/admin/audit-totals")["mismatches"] == []


def test_the_real_file_makes_four_deals_with_notes_and_a_second_run_makes_none(own) -> None:
    """ING-15, THR-07, DEAL-01, DEAL-03, decisions 13; the issue's acceptance numbers."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect()

    summary = imported(workspace)
    assert (summary["clicks"], summary["accepted"]) == (3440, 3440)
    assert (summary["duplicate"], summary["non_clicks"], summary["rejected"]) == (0, 120, 0)
    assert daemon.rest.get("/v1/admin/status")["links"] == 737

    report = workspace.tick()
    assert report["links_examined"] == 737
    assert (report["crossings"], report["delivered"]) == (4, 4), report
    deals = daemon.sandbox.deals()
    assert clicks_in(deals, workspace) == [836, 425, 129, 121]
    assert {(deal["pipeline_id"], deal["stage_id"]) for deal in deals} == {(1, 11)}
    for deal in deals:
        notes = daemon.sandbox.notes(deal["id"])
        assert len(notes) == 1, f"deal {deal['title']} has {len(notes)} notes"

    again = imported(workspace)
    assert (again["accepted"], again["duplicate"], again["non_clicks"]) == (0, 3440, 120), again
    second = workspace.tick()
    assert (second["crossings"], second["delivered"]) == (0, 0), second
    assert len(daemon.sandbox.deals()) == 4 and len(daemon.sandbox.notes()) == 4
    assert recount_agrees(daemon)


def test_people_alone_make_exactly_three_deals(own) -> None:
    """decisions 13: every click of mwszkS comes from one map robot."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect(count="people")
    imported(workspace)
    report = workspace.tick()
    assert (report["crossings"], report["delivered"]) == (3, 3), report
    robot = workspace.link("mwszkS")
    assert robot["totals"]["people"] == 0 and robot["totals"]["all"] in (836, 425, 129, 121), robot
    assert workspace.deliveries(link="mwszkS") == []
    assert workspace.explained("mwszkS", 100)["outcome"] == "not_reached"
    assert recount_agrees(daemon)


def test_a_baseline_of_imported_clicks_fires_nothing(own) -> None:
    """THR-19: connected after the import, the totals of that moment are behind us."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.put_link("seed")
    imported(workspace)
    workspace.connect()
    assert workspace.tick()["delivered"] == 0
    assert daemon.sandbox.deals() == []
    assert workspace.explained("mwszkS", 100)["reason_code"] == "baseline"


def test_the_printed_checklist_works_by_command_line(own) -> None:
    """PCON-20: from the token to the first deal, as the README says it."""
    daemon = own().start()
    connected = daemon.cli(
        "connect",
        "pipedrive",
        "-w",
        "acme",
        "--token-stdin",
        "--set",
        "pipeline_id=1",
        "--set",
        "stage_id=11",
        "--json",
        stdin=daemon.sandbox.token + "\n",
    )
    assert connected.json["state"] == "active", connected.out
    lines = "".join(f'{{"id":"c{n}","ts":"2026-01-01T00:00:00Z","link":"spring"}}\n' for n in range(100))
    clicks = daemon.directory / "clicks.ndjson"
    clicks.write_text(lines)
    summary = daemon.cli("import", "clicks", str(clicks), "--format", "milepost", "-w", "acme", "--json").json
    assert summary["accepted"] == 100, summary
    assert daemon.cli("tick", "--json").json["delivered"] == 1
    assert [deal["title"] for deal in daemon.sandbox.deals()] == ["Link spring hit 100 clicks"]
    told = daemon.cli("explain", "spring", "-w", "acme").out
    assert "100" in told and "deliver" in told, told


def test_equal_lines_of_a_file_are_clicks_of_their_own_and_a_resumed_import_adds_none(own) -> None:
    """decisions 8: the k-th equal line has an id of its own, and REST agrees with the file on the first."""
    daemon = own().start()
    workspace = daemon.workspace("acme")
    workspace.connect()
    line = '{"ts":"2026-01-01T00:00:00Z","link":"twice"}'
    file = daemon.directory / "equal.ndjson"
    file.write_text(f"{line}\n{line}\nnot json\n{line}\n")
    first = daemon.cli("import", "clicks", str(file), "--format", "milepost", "-w", "acme", "--json", check=False).json
    assert (first["accepted"], first["rejected"]) == (3, 1), first
    assert first["rejections"][0]["line"] == 3, first
    answer = workspace.rest.post(
        f"{workspace.base}/events", line.encode(), headers={"Content-Type": "application/json"}
    )
    assert (answer["accepted"], answer["duplicate"]) == (0, 1), answer
    assert workspace.link("twice")["totals"]["all"] == 3
