# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can see: docs/architecture.md and CONTRIBUTING.md say why each is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import errors_page
import ids
import plugin_reference

ROOT = Path(__file__).resolve().parents[2]

# ---------------------------------------------------------------------------------------------------------------- files

LONG_FILES = {
    # Path: why it may be longer than LINE_LIMIT.
    "Tests/EndToEnd/test_thresholds.py": "one test a requirement of the threshold chapter, in its order",
    "Tests/AbiCorpus/1.0/plugin/plugin.c": "frozen as `milepost plugin new` made it for ABI 1.0",
}
LINE_LIMIT = 500
FUNCTION_LIMIT = 70
CODE = {".swift", ".c", ".h", ".py", ".sh"}
# Data and formats that have no comments, or files of two lines.
WITHOUT_LICENCE = {".json", ".ndjson", ".jsonl", ".modulemap", ".map", ".txt", ".ini", ".md", ".toml", ".pem", ".template", ".abi"}


def files() -> list[Path]:
    """What is in the repository or about to be: tracked, and untracked but not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


FILES = files()
SWIFT = [path for path in FILES if path.suffix == ".swift"]
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def code_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines of Swift or C without comments and without what stands in quotation marks."""
    bare = re.sub(r'"""(?:.|\n)*?"""|/\*(?:.|\n)*?\*/', lambda found: "\n" * found.group().count("\n"), text(path))
    return [
        (number, re.sub(r"//.*", "", re.sub(r'"(?:\\.|[^"\\])*"', '""', line)))
        for number, line in enumerate(bare.splitlines(), 1)
    ]


def matches(paths: list[Path], pattern: str) -> list[str]:
    """`path:line: text` of every line of code that the pattern finds."""
    compiled = re.compile(pattern)
    return [
        f"{name(path)}:{number}: {line.strip()}" for path in paths for number, line in code_lines(path) if compiled.search(line)
    ]


def test_files_are_short_enough_to_hold_one_idea() -> None:
    long = {name(path): len(text(path).splitlines()) for path in FILES if path.suffix in CODE}
    found = [f"{path}: {lines} lines" for path, lines in long.items() if lines > LINE_LIMIT and path not in LONG_FILES]
    assert not found, "split these, or give a reason in LONG_FILES: " + "; ".join(found)


def test_long_files_with_a_reason_are_still_there() -> None:
    assert not [path for path in LONG_FILES if not (ROOT / path).is_file()]


def swift_functions(path: Path) -> list[tuple[int, int]]:
    """First line and length of every function with a body of its own, by the formatter's indentation."""
    lines, found = text(path).splitlines(), []
    for start, line in enumerate(lines):
        head = re.match(r"^(\s*)(?:[\w@()]+ )*(?:func |init[?(<]|deinit\b)", line)
        if not head:
            continue
        indent, at = head.group(1), start
        while at < len(lines) - 1 and not lines[at].endswith("{") and (at == start or lines[at].startswith(indent + "    ")):
            at += 1
        if not lines[at].endswith("{"):
            continue  # a requirement of a protocol, or a body on one line
        end = next((number for number in range(at + 1, len(lines)) if re.match(rf"{indent}\}}", lines[number])), len(lines) - 1)
        found.append((start + 1, end - start + 1))
    return found


def c_functions(path: Path) -> list[tuple[int, int]]:
    lines, found, start = text(path).splitlines(), [], None
    for number, line in enumerate(lines):
        if line.endswith(") {") and not line.startswith((" ", "}")):
            start = number
        elif line == "}" and start is not None:
            found.append((start + 1, number - start + 1))
            start = None
    return found


def test_functions_fit_one_screen() -> None:
    found = []
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == "Tests" or path.suffix not in {".swift", ".c"}:
            continue
        functions = swift_functions(path) if path.suffix == ".swift" else c_functions(path)
        found += [f"{name(path)}:{line}: {length} lines" for line, length in functions if length > FUNCTION_LIMIT]
    assert not found, found


def test_the_measure_of_functions_sees_them() -> None:
    """So that the test above does not pass because nothing is found."""
    assert len(swift_functions(ROOT / "Sources/MilepostEngine/Delivery/DeliveryMachine.swift")) >= 8
    assert len(c_functions(ROOT / "Sources/plugin-worker/main.c")) >= 3


def test_every_source_file_names_its_licence() -> None:
    unnamed = []
    for path in FILES:
        is_source = path.suffix in CODE or (path.suffix == "" and text(path).startswith("#!"))
        if is_source and "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text(path).splitlines()[:5]):
            unnamed.append(name(path))
    assert not unnamed, unnamed


def test_no_unknown_kind_of_file() -> None:
    """A new kind is either code, which names its licence, or listed as data."""
    named = {"LICENSE", "Makefile", ".gitignore", ".clang-format", ".swift-format"}
    unknown = [
        name(path) for path in FILES
        if path.suffix not in CODE | WITHOUT_LICENCE | {".yaml", ".yml", ".service", ".pm", ".pc", ".cmake"}
        and path.name not in named and not text(path).startswith("#!")
        # debhelper's names and formats.
        and not name(path).startswith("packaging/debian/")
    ]
    assert not unknown, unknown


def test_nothing_is_left_to_do_in_the_code() -> None:
    """Open work is an issue."""
    marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:"]))
    found = [
        f"{name(path)}:{number}" for path in FILES if path.suffix in CODE
        for number, line in enumerate(text(path).splitlines(), 1) if marks.search(line)
    ]
    assert not found, found


def test_no_path_of_somebodys_machine() -> None:
    """Home folders, and the folder that this checkout happens to lie in."""
    patterns = [r"/(?:home|Users)/[a-z]\w*/", r"/root/[A-Za-z.]"]
    if len(ROOT.parts) > 2 and ROOT.as_posix() not in ("/", "/tmp"):
        patterns.append(rf"(?<![\w.-]){re.escape(ROOT.as_posix())}\b")
    pattern = re.compile("|".join(patterns))
    found = [
        f"{name(path)}:{number}: {line.strip()[:120]}" for path in FILES if path.suffix not in {".ndjson", ".jsonl"}
        for number, line in enumerate(text(path).splitlines(), 1) if pattern.search(line) and path != Path(__file__)
    ]
    assert not found, found


# ---------------------------------------------------------------------------------------------------------------- rooms

LEVELS = [
    {"CMilepostABI", "COpenSSL", "CYAML", "CZlib", "CMilepostCurl", "CMilepostLinux", "CMilepostProbe"},
    {"MilepostModel", "MilepostTemplates"},
    {"MilepostRules"},
    {"MilepostVault", "MilepostStore", "MilepostEgress", "MilepostPluginHost", "MilepostConfiguration", "MilepostIntake",
     "MilepostSupervision"},
    {"MilepostEngine", "MilepostValidator"},
    {"MilepostServer", "MilepostClient", "MilepostSandbox"},
    {"milepostd", "milepost", "milepost-sandbox", "milepost-plugin-check"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
EXECUTABLES = LEVELS[-1]

NEVER = {
    # Room: modules that it must not import, as the table of docs/architecture.md says.
    "MilepostModel": {"Foundation", "GRDB", "Hummingbird", "HTTPTypes", "Logging", "CYAML", "NIOCore"},
    "MilepostRules": {"Foundation", "FoundationEssentials", "Glibc", "GRDB", "Hummingbird", "HTTPTypes", "Logging"},
    "MilepostVault": {"GRDB", "Hummingbird", "HTTPTypes", "CMilepostCurl"},
    "MilepostStore": {"Hummingbird", "HTTPTypes", "CMilepostCurl", "CMilepostABI", "COpenSSL", "MilepostRules"},
    "MilepostEgress": {"GRDB", "Hummingbird", "CMilepostABI"},
    "MilepostPluginHost": {"GRDB", "Hummingbird", "CMilepostCurl", "COpenSSL"},
    "MilepostIntake": {"GRDB", "Hummingbird", "HTTPTypes", "CMilepostCurl"},
    "MilepostConfiguration": {"GRDB", "Hummingbird", "CMilepostCurl"},
    "MilepostEngine": {"GRDB", "GRDBSQLite", "Hummingbird", "HTTPTypes", "CMilepostCurl", "CMilepostABI", "COpenSSL"},
    "MilepostServer": {"GRDB", "GRDBSQLite", "CMilepostCurl", "CMilepostABI"},
    "MilepostClient": {"GRDB", "Hummingbird", "COpenSSL"},
    "MilepostSupervision": {"GRDB", "Hummingbird", "Foundation", "CMilepostCurl", "COpenSSL"},
    "MilepostValidator": {"GRDB", "Hummingbird", "CMilepostCurl", "COpenSSL"},
    "milepost": {"MilepostPluginHost", "MilepostValidator", "MilepostEngine", "MilepostStore"},
}


def room_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "Sources" and parts[1] in LEVEL else None


def imports(path: Path) -> list[tuple[int, str]]:
    pattern = re.compile(
        r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|private|fileprivate)\s+)?import\s+"
        r"(?:(?:struct|class|enum|func|protocol|typealias|var|let)\s+)?(\w+)")
    return [(number, found.group(1)) for number, line in enumerate(text(path).splitlines(), 1) if (found := pattern.match(line))]


def declared() -> dict[str, set[str]]:
    """Target name to the names in its call in Package.swift: its dependencies among them."""
    manifest = text(ROOT / "Package.swift")
    calls: dict[str, set[str]] = {}
    for found in re.finditer(r"(?:\broom|\.target|\.executableTarget)\(", manifest):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(manifest[at], 0)
            at += 1
        names = re.findall(r'"([\w-]+)"', manifest[found.end():at])
        if names and names[0] in LEVEL:
            calls[names[0]] = set(names[1:])
    return calls


ROOM_FILES = [(path, room) for path in SWIFT if (room := room_of(path))]


def test_every_room_has_its_place() -> None:
    folders = {path.name for path in (ROOT / "Sources").iterdir() if path.is_dir()}
    assert folders - {"MilepostKit", "plugin-worker"} == set(LEVEL), "a new room needs a level here and a line in docs/architecture.md"
    assert set(declared()) >= {room for room in LEVEL if room not in {"CMilepostABI", "COpenSSL", "CYAML", "CZlib"}}


def test_imports_point_downward() -> None:
    wrong = [
        f"{name(path)}:{number}: {room} imports {module}"
        for path, room in ROOM_FILES for number, module in imports(path)
        if module in LEVEL and module != room and LEVEL[module] >= LEVEL[room]
    ]
    assert not wrong, wrong


def test_dependencies_point_downward() -> None:
    wrong = [
        f"{room} depends on {other}" for room, names in declared().items() for other in names
        if other in LEVEL and LEVEL[other] >= LEVEL[room]
    ]
    assert not wrong, wrong


def test_rooms_declare_what_they_import() -> None:
    calls = declared()
    wrong = sorted({
        f"{name(path)}: {module} is not among the dependencies of {room} in Package.swift"
        for path, room in ROOM_FILES for _, module in imports(path)
        if module in LEVEL and module != room and module not in calls[room]
    })
    assert not wrong, wrong


@pytest.mark.parametrize("room", sorted(NEVER))
def test_a_room_keeps_out_of_what_is_not_its_business(room: str) -> None:
    wrong = [
        f"{name(path)}:{number}: import {module}"
        for path, own in ROOM_FILES if own == room for number, module in imports(path) if module in NEVER[room]
    ]
    assert not wrong, wrong


def test_the_core_knows_no_vendor() -> None:
    """A vendor's name in the core would be the first step of its logic. Comments may give it as an example."""
    rooms = {"MilepostModel", "MilepostRules", "MilepostVault", "MilepostStore", "MilepostEgress", "MilepostPluginHost",
             "MilepostEngine", "MilepostServer"}
    found = []
    for path, room in ROOM_FILES:
        if room not in rooms:
            continue
        for number, line in enumerate(text(path).splitlines(), 1):
            if re.search(r"pipedrive|hubspot|brevo", re.sub(r"//.*", "", line), re.IGNORECASE):
                found.append(f"{name(path)}:{number}: {line.strip()[:120]}")
    assert not found, found


def test_clock_randomness_and_environment_come_from_outside() -> None:
    """Below the executables nothing asks the machine, so that the engine can run in a simulated world. MilepostModel/Ambient
    is the one place that does; who needs it is handed it."""
    below = [path for path, room in ROOM_FILES if room not in EXECUTABLES and name(path) != "Sources/MilepostModel/Ambient.swift"]
    found = matches(below, r"\bDate\(\)|\bDate\.now\b|\bUUID\(\)|\bSystemRandomNumberGenerator\b|\bProcessInfo\b|\bgetenv\(")
    assert not found, found


def test_no_test_looks_inside_with_testable() -> None:
    """The tests build in release too."""
    found = matches([path for path in SWIFT if path.relative_to(ROOT).parts[0] in ("Tests", "Plugins")], r"@testable\b")
    assert not found, found


# ------------------------------------------------------------------------------------------------------------ documents


def anchors(path: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", re.sub(r"```(?:.|\n)*?```", "", text(path)), re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def links(path: Path) -> list[str]:
    bare = re.sub(r"```(?:.|\n)*?```|`[^`\n]*`", "", text(path))
    return re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", bare)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_of_documents_lead_somewhere(document: Path) -> None:
    broken = []
    for link in links(document):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        aimed = (document.parent / target).resolve() if target else document
        if not aimed.exists() or (anchor and aimed.suffix == ".md" and anchor not in anchors(aimed)):
            broken.append(link)
    assert not broken, f"{name(document)}: {broken}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_documents_name_exist(document: Path) -> None:
    """A path in back quotes below one of our folders is a promise too."""
    if document.name == "CHANGELOG.md":
        return  # tells of files that are gone
    bare = re.sub(r"```(?:.|\n)*?```", "", text(document))
    tops = "Sources|Tests|Plugins|include|docs|packaging"
    named = re.findall(rf"`((?:{tops})/[\w./+-]+)`", bare)
    missing = [path for path in named if not (ROOT / path).exists() and not list(ROOT.glob(path.rstrip("/") + "*"))]
    assert not missing, f"{name(document)}: {missing}"


def named_ids(paths: list[Path]) -> set[str]:
    """Ids in the texts, `PCON-07 to PCON-11` written out."""
    found: set[str] = set()
    for path in paths:
        for section, first, other, last in re.findall(r"\b([A-Z]{1,4})-(\d\d)\b(?: to ([A-Z]{1,4})-(\d\d)\b)?", text(path)):
            numbers = range(int(first), int(last) + 1) if other == section else [int(first)]
            found |= {f"{section}-{number:02}" for number in numbers}
    return found


# They speak of ids and hold none of them.
OF_IDS = {ROOT / "Tests" / "Tidy" / name for name in ("ids.py", "tidy_test.py")}


def test_every_requirement_in_scope_is_named_by_a_test() -> None:
    """Tests/Tidy/ids.py lists them; an id may stand in a test's name or in what is written at its head."""
    tests = [
        path for path in FILES
        if "Tests" in path.relative_to(ROOT).parts[:-1] and path not in OF_IDS and path.suffix in {".swift", ".py", ".c"}
    ]
    missing = sorted(set(ids.required()) - named_ids(tests))
    assert not missing, f"no test names {', '.join(missing)}"


def test_ranges_of_ids_are_read_whole(tmp_path: Path) -> None:
    """So that the test above does not pass by misreading, nor fail for a range."""
    (tmp_path / "a.py").write_text("PCON-07 to PCON-09, THR-01 and Z-07; not XTHR-02a nor THR-123")
    assert named_ids([tmp_path / "a.py"]) == {"PCON-07", "PCON-08", "PCON-09", "THR-01", "Z-07"}
    assert "PCON-14" not in ids.required() and len(ids.required()) > 130


def test_page_of_errors_names_every_code() -> None:
    """Sentences may lag behind; a code that is missing means that Tests/Tidy/errors_page.py was not run."""
    made, written = (set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) for page in (errors_page.page(), text(errors_page.PAGE)))
    assert written == made, (sorted(made - written), sorted(written - made))


def test_reference_of_the_plugin_interface_is_made_from_the_headers() -> None:
    """After a change to a header or a schema run Tests/Tidy/plugin_reference.py."""
    assert text(plugin_reference.PAGE) == plugin_reference.page()
    declared = set(re.findall(r"\(\*(\w+)\)\s*\(", text(ROOT / "include/milepost/plugin.h"))) - {"mp_plugin_entry"}
    described = set(re.findall(r"\w+", " ".join(re.findall(r"^### (.*)$", text(plugin_reference.PAGE), re.MULTILINE))))
    assert len(declared) > 35 and not declared - described, declared - described


def test_no_error_goes_without_a_sentence() -> None:
    rows = [line.strip("| ").split("|") for line in errors_page.page().splitlines() if line.startswith("| `")]
    silent = [row[0].strip() for row in rows if not row[-1].strip() or row[-1].strip() == "…"]
    assert len(rows) > 150 and not silent, f"{silent} say nothing: name a meaning in errors_page.py, or write the sentence beside the code"
    written = [line for line in text(errors_page.PAGE).splitlines() if re.fullmatch(r"\| `\w+` \|.*\| *\|", line)]
    assert not written, written


def test_sentences_are_read_over_line_breaks() -> None:
    """So that the test above does not pass on halves: the formatter moves literals to lines of their own."""
    read = errors_page.literal
    assert read('\n    "one \\(a(b)) "\n    + "two \\"x\\""\n)') == 'one … two "x"'
    assert read(' health.reason ?? "spare"') == "spare"
    assert read(' "a " + (x.y ?? "b") + c.d(e) + " f"') == "a … f"
    assert read(" detail)") == "" and read("\n  error.message)") == ""
    assert errors_page.SAID.match(', pointer: x,\n      message:\n      "later"')


def test_decision_records_are_numbered_once() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name) for record in records), records
    assert len(set(numbers)) == len(numbers), numbers


def test_administrators_page_names_every_setting() -> None:
    """And none that is not there. Tests/Tidy/settings_table.py writes the table."""
    schema = text(ROOT / "Sources/MilepostConfiguration/Schema/Configuration+Settings.swift")
    daemon, plan, plugin = re.split(r"^extension Configuration\.(?:Plan|Plugin) ", schema, flags=re.MULTILINE)
    keys = {
        prefix + key for prefix, part in [("", daemon), ("plans.NAME.", plan), ("plugins.NAME.", plugin)]
        for key in re.findall(r'Setting\(\s*"([a-z0-9_.]+)"', part)
    }
    assert len(keys) > 30
    written = set(re.findall(r"^\| `([A-Za-z0-9_.]+)` \| `[^|]*` \| [^|]* \| (?:yes)? ?\|$", text(ROOT / "docs" / "admin.md"), re.MULTILINE))
    assert written == keys, (sorted(keys - written), sorted(written - keys))


def test_administrators_page_names_every_metric() -> None:
    registry = text(ROOT / "Sources/MilepostServer/Metrics/MetricsRegistry.swift")
    metrics = set(re.findall(r'name: "(milepost_\w+)"', registry))
    assert metrics
    page = text(ROOT / "docs" / "admin.md")
    written = set(re.findall(r"`(milepost_[a-z_]+)`", page))
    assert written == metrics, (sorted(metrics - written), sorted(written - metrics))
