# SPDX-License-Identifier: Apache-2.0
"""The ABI stays (plugin-abi.md 30 and 31, docs/plugin-abi.md): today's headers beside those of every released minor, by the
compiler's layout, by libabigail, and in every language a plugin may be written in; and each of these guards sees a field that
somebody put into the middle of a struct. The compiled corpus is in EndToEnd/test_abi_corpus.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import abi_layout

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "Tests/AbiCorpus"
INCLUDE = ROOT / "include"
RELEASES = sorted(path.parent for path in CORPUS.glob("*/layout.json"))
# The machines that Debian's packages are made for, in clang's words. Swift's toolchain brings a clang that compiles for each.
MACHINES = ["x86_64-linux-gnu", "aarch64-linux-gnu"]

# What somebody might do to a header: name, file, text, replacement, and whether the policy permits it.
CHANGES = [
    ("a field in the middle of mp_plugin", "plugin.h", "    void (*destroy)(void *self);\n",
     "    void (*suspend)(void *self);\n    void (*destroy)(void *self);\n", False),
    ("a field in the middle of mp_host", "plugin.h", "    int32_t (*log_enabled)(", "    int32_t (*trace)(uint64_t instance);\n    int32_t (*log_enabled)(", False),
    ("a field in the middle of mp_event", "types.h", "    int32_t http_status; /**<", "    uint64_t span;\n    int32_t http_status; /**<", False),
    ("a field at the end of mp_view", "types.h", "    uint64_t len; /**< bytes */\n", "    uint64_t len; /**< bytes */\n    uint64_t kind;\n", False),
    ("a field taken away", "types.h", "    uint32_t cost;         /**<", "    uint32_t reserved;     /**<", False),
    ("another type of the same size", "types.h", "    uint32_t attempt;     /**<", "    int32_t attempt;     /**<", False),
    ("another argument", "plugin.h", "    void (*cancel)(void *self, uint64_t op);", "    void (*cancel)(void *self, uint32_t op);", False),
    ("a function at the end of mp_plugin", "plugin.h", "    const void *(*get_extension)(void *self, mp_view id);\n} mp_plugin;",
     "    const void *(*get_extension)(void *self, mp_view id);\n    int32_t (*later)(void *self, const mp_op *op);\n} mp_plugin;", True),
    ("a function at the end of mp_host", "plugin.h", "    const void *(*get_extension)(uint64_t instance, mp_view id);\n} mp_host;",
     "    const void *(*get_extension)(uint64_t instance, mp_view id);\n    int32_t (*later)(uint64_t instance);\n} mp_host;", True),
]


def changed(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of today's headers with one change."""
    shutil.copytree(INCLUDE, folder / "include", ignore=shutil.ignore_patterns("schemas"))
    path = folder / "include/milepost" / file
    text = path.read_text()
    assert text.count(old) == 1, f"{text.count(old)} times in {file}: {old}"
    path.write_text(text.replace(old, new))
    return folder / "include"


def freestanding(target: str, include: Path, text: str, language: str = "c", standard: str = "c11") -> subprocess.CompletedProcess[str]:
    """Compiles a text for another machine, with no library of it at hand."""
    assert shutil.which("clang"), "clang is missing: it comes with Swift's toolchain"
    return subprocess.run(
        ["clang", f"--target={target}", "-ffreestanding", "-nostdlibinc", "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic",
         "-Werror", f"-I{include}", "-fsyntax-only", "-"], input=text, text=True, capture_output=True, timeout=60)


def abidiff(release: Path, include: Path, folder: Path) -> str:
    """What libabigail says of headers beside a release; empty when they are equal."""
    assert shutil.which("abidiff"), "abidiff is missing: apt-get install abigail-tools (packaging/ensure-dependencies.sh does)"
    library = folder / "libmilepost-surface.so"
    subprocess.run([CORPUS / "surface.sh", include, library], check=True, timeout=60)
    done = subprocess.run(
        ["abidiff", "--harmless", "--no-show-locs", release / "surface.abi", library], capture_output=True, text=True, timeout=60)
    assert done.returncode & 3 == 0, f"abidiff did not run: {done.stdout}{done.stderr}"  # 1 an error, 2 wrong usage
    assert (done.returncode != 0) == bool(done.stdout.strip())
    return done.stdout


# Lines that lead to a change without being one.
FRAME = re.compile(
    r"(Functions|Variables) changes summary: 0 Removed, .*|\d+ functions? with some (indirect )?sub-type changes?:"
    r"|\[C\] 'function .*' has some (indirect )?sub-type changes:|return type changed:|parameter \d+ of type '.*' has sub-type changes:"
    r"|in (pointed to|unqualified underlying|referenced) type '.*':|(in )?(pointed to|unqualified underlying) type '.*' changed, as reported earlier"
    r"|type size hasn't changed|\d+ data member changes?:|type of '.*' changed:"  # what changed of it follows
    r"|\d+ Added functions?:|\[A\] 'function .*'|\d+ data member insertions?:|")


def broken(report: str, golden: dict[str, Any]) -> list[str]:
    """Lines of a report of abidiff that are no append to a struct which tells its own size. Its suppressions (has_data_members_
    inserted_between) cannot say this in version 2.2: they hide other changes of the type too, or nothing."""
    found, bits = [], None
    for line in map(str.strip, report.splitlines()):
        struct = re.fullmatch(r"underlying type 'struct (\w+)' changed:", line)
        grown = re.fullmatch(r"type size changed from (\d+) to (\d+) \(in bits\)", line)
        inserted = re.fullmatch(r"'.*', at offset (\d+) \(in bits\)", line)
        if struct:
            shape = golden["structs"].get(struct.group(1))
            bits = shape["size"] * 8 if shape and shape["fields"][0]["name"] == "struct_size" else None
        elif grown and bits == int(grown.group(1)) < int(grown.group(2)):
            pass
        elif inserted and bits is not None and int(inserted.group(1)) >= bits:
            pass
        elif not FRAME.fullmatch(line):
            found.append(line)
    return found


def test_there_is_a_release_to_compare_with() -> None:
    assert [path.name for path in RELEASES][:1] == ["1.0"]


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
class TestReleases:
    def test_the_golden_layout_is_kept(self, release: Path) -> None:
        assert abi_layout.breaks(json.loads((release / "layout.json").read_text()), abi_layout.layout(INCLUDE)) == []

    @pytest.mark.parametrize("compiler", ["gcc", "clang"])
    def test_the_golden_layout_is_that_of_its_own_headers_under_every_compiler(self, release: Path, compiler: str) -> None:
        """And of nobody else's: the file and the frozen headers belong together."""
        assert shutil.which(compiler), f"{compiler} is missing"
        assert json.loads((release / "layout.json").read_text()) == abi_layout.layout(release / "include", compiler)

    def test_abidiff_finds_nothing_that_breaks(self, release: Path, tmp_path: Path) -> None:
        """EXT-01"""
        report = abidiff(release, INCLUDE, tmp_path)
        assert broken(report, json.loads((release / "layout.json").read_text())) == [], report

    def test_the_baseline_of_libabigail_is_that_of_its_own_headers(self, release: Path, tmp_path: Path) -> None:
        assert abidiff(release, release / "include", tmp_path) == ""

    def test_every_guard_sees_a_break_and_lets_an_append_pass(self, release: Path, tmp_path: Path) -> None:
        golden = json.loads((release / "layout.json").read_text())
        wrong = []
        for number, (name, file, old, new, is_permitted) in enumerate(CHANGES):
            folder = tmp_path / str(number)
            include = changed(folder, file, old, new)
            seen_by_layout = abi_layout.breaks(golden, abi_layout.layout(include)) != []
            report = abidiff(release, include, folder)
            seen_by_abidiff = broken(report, golden) != []
            if report == "":
                wrong.append(f"abidiff says nothing at all: {name}")
            if seen_by_layout == is_permitted:
                wrong.append(f"golden layout: {name}")
            if seen_by_abidiff == is_permitted:
                wrong.append(f"abidiff: {name}")
        assert wrong == []

    def test_a_constant_of_another_value_is_seen(self, release: Path, tmp_path: Path) -> None:
        """Macros leave no trace in a library, so the layout holds them."""
        include = changed(tmp_path, "types.h", "#define MP_UNCERTAIN 7 ", "#define MP_UNCERTAIN 9 ")
        golden = json.loads((release / "layout.json").read_text())
        assert abi_layout.breaks(golden, abi_layout.layout(include)) == ["MP_UNCERTAIN was 7 and is 9"]


def abidiff_elsewhere(release: Path, include: Path, folder: Path, target: str) -> int:
    """Exit status of abidiff, the baseline beside the surface library of another machine: 4 a change, 8 an incompatible one.
    What it calls harmless is left out, because the two machines' own headers name the fixed-width integers differently."""
    library = folder / "libmilepost-surface.so"
    subprocess.run(
        ["clang", f"--target={target}", "-ffreestanding", "-nostdlibinc", "-nostdlib", "-fuse-ld=lld", "-std=c11", "-g", "-O0", "-fPIC", "-shared",
         "-fvisibility=hidden", f"-I{include}", "-Wl,-soname,libmilepost-surface.so", "-o", library, CORPUS / "surface.c"],
        check=True, capture_output=True, timeout=60)
    done = subprocess.run(
        ["abidiff", "--no-architecture", "--no-show-locs", release / "surface.abi", library], capture_output=True, text=True, timeout=60)
    assert done.returncode & 3 == 0, f"abidiff did not run: {done.stdout}{done.stderr}"
    return done.returncode


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
class TestMachines:
    """plugin-abi.md 30: one layout for amd64 and arm64. No program of the other machine is run for it."""

    def test_the_golden_layout_is_the_same_on_every_machine(self, release: Path, machine: str) -> None:
        golden = json.loads((release / "layout.json").read_text())
        assert golden == abi_layout.layout(release / "include", "clang", machine)
        assert abi_layout.breaks(golden, abi_layout.layout(INCLUDE, "clang", machine)) == []

    @pytest.mark.parametrize("language,standard", [("c", "c11"), ("c++", "c++17")])
    def test_the_asserts_of_the_header_hold_on_every_machine(
            self, release: Path, machine: str, language: str, standard: str) -> None:
        for include in (release / "include", INCLUDE):
            done = freestanding(machine, include, "#include <milepost/layout.h>\n", language, standard)
            assert done.returncode == 0, done.stderr

    def test_abidiff_finds_the_baseline_on_every_machine_and_a_change_too(self, release: Path, machine: str, tmp_path: Path) -> None:
        assert abidiff_elsewhere(release, release / "include", tmp_path, machine) == 0
        name, file, old, new, _ = CHANGES[0]
        assert abidiff_elsewhere(release, changed(tmp_path, file, old, new), tmp_path, machine) & 4, name


def test_a_field_whose_size_depends_on_the_machine_is_seen(tmp_path: Path) -> None:
    """va_list has 24 bytes on amd64 and 32 on arm64: with one in a struct the machines part, and the asserts stop the build."""
    include = changed(tmp_path, "types.h", "    uint64_t len; /**< bytes */\n", "    __builtin_va_list len;\n")
    layouts = [abi_layout.layout(include, "clang", machine) for machine in MACHINES]
    assert layouts[0] != layouts[1]
    for machine in MACHINES:
        assert "MP_LAYOUT" in freestanding(machine, include, "#include <milepost/layout.h>\n").stderr


def test_the_layout_is_one_of_machines_with_64_bits() -> None:
    assert "MP_LAYOUT" in freestanding("armv7-linux-gnueabihf", INCLUDE, "#include <milepost/layout.h>\n").stderr


def test_the_asserts_of_the_header_see_a_field_in_the_middle(tmp_path: Path) -> None:
    """layout.h stops the build of who includes it: the host's own, and a plugin's."""
    for number, (name, file, old, new, is_permitted) in enumerate(CHANGES[:4]):
        include = changed(tmp_path / str(number), file, old, new)
        done = subprocess.run(
            ["cc", "-std=c11", f"-I{include}", "-fsyntax-only", "-x", "c", "-"], input="#include <milepost/layout.h>\n", text=True,
            capture_output=True, timeout=60)
        assert done.returncode != 0 and "MP_LAYOUT" in done.stderr, name


SWIFT = """
import CMilepostABI

struct Difference: Error {}

/// Compiled only if the importer sees the tables, their functions and their constants.
func use(_ plugin: mp_plugin, _ host: mp_host, _ op: inout mp_op) -> Int32? {
    guard plugin.struct_size >= MP_PLUGIN_SIZE_1_0, host.struct_size >= MP_HOST_SIZE_1_0 else { return nil }
    op.verb = MP_VERB_DELIVER
    return plugin.deliver?(nil, &op)
}

let places = [
%s
]
for (name, swift, c) in places where swift != c { print("\\(name): \\(String(describing: swift)) in Swift, \\(c) in C") }
print("\\(places.count) fields")
"""


def test_swift_sees_the_header_alone_and_with_the_layout_of_c(tmp_path: Path) -> None:
    """Through the module map that our own host uses, with nothing else imported."""
    assert shutil.which("swiftc"), "swiftc is missing"
    golden = abi_layout.layout(INCLUDE)["structs"]
    places = []
    for name, shape in golden.items():
        places.append(f'    ("{name}", MemoryLayout<{name}>.size, {shape["size"]}),')
        places += [
            f'    ("{name}.{field["name"]}", MemoryLayout<{name}>.offset(of: \\{name}.{field["name"]}) ?? -1, {field["offset"]}),'
            for field in shape["fields"]]
    source = tmp_path / "main.swift"
    source.write_text(SWIFT % "\n".join(places))
    program = tmp_path / "layout"
    done = subprocess.run(
        ["swiftc", "-Onone", "-I", ROOT / "Sources/CMilepostABI", "-o", program, source], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([program], capture_output=True, text=True, check=True, timeout=30).stdout
    assert printed.strip() == f"{sum(len(shape['fields']) + 1 for shape in golden.values())} fields", printed


def test_the_policy_and_the_header_name_the_same_minor() -> None:
    minor = re.search(r"#define MP_ABI_MINOR (\d+)u", (INCLUDE / "milepost/types.h").read_text()).group(1)
    host = re.search(r"let hostABIMinor: UInt32 = (\d+)", (ROOT / "Sources/MilepostPluginHost/Manifest/PluginManifest.swift").read_text())
    assert host.group(1) == minor
    assert f"milepost-plugin-abi-1 (= 1.{minor})" in (ROOT / "docs/plugin-abi.md").read_text()
    assert re.search(rf"^ \* Changes: .*1\.{minor} ", (INCLUDE / "milepost/plugin.h").read_text(), re.M)
