# SPDX-License-Identifier: Apache-2.0
"""The public header: it stands alone, in C11 and C++17, under gcc and clang, and its layout is frozen (plugin-abi.md 30)."""
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADERS = ROOT / "include/milepost"
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
LANGUAGES = [("c", "c11"), ("c++", "c++17")]


def compile_text(compiler, language, standard, text):
    """What the compiler says about a source text; empty when it likes it."""
    command = [compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
               f"-I{ROOT / 'include'}", "-fsyntax-only", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, timeout=60).stderr


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("language,standard", LANGUAGES)
@pytest.mark.parametrize("header", ["types.h", "plugin.h", "layout.h"])
def test_each_header_compiles_alone_without_a_warning(compiler, language, standard, header):
    assert compile_text(compiler, language, standard, f"#include <milepost/{header}>\nint main(void) {{ return 0; }}\n") == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_moved_field_breaks_the_build(compiler, tmp_path):
    """The asserts can fail: swap two fields of mp_op in a copy and watch them."""
    copy = tmp_path / "milepost"
    shutil.copytree(HEADERS, copy, ignore=shutil.ignore_patterns("schemas"))
    types = copy / "types.h"
    swapped = re.sub(r"(    int32_t verb;[^\n]*\n)(    uint64_t id;[^\n]*\n)", r"\2\1", types.read_text())
    assert swapped != types.read_text()
    types.write_text(swapped)
    command = [compiler, "-x", "c", "-std=c11", f"-I{tmp_path}", "-fsyntax-only", "-"]
    said = subprocess.run(command, input="#include <milepost/layout.h>\n", text=True, capture_output=True, timeout=60)
    assert said.returncode != 0 and "offsetof(mp_op" in said.stderr


def test_every_function_of_the_tables_is_frozen_in_the_layout():
    layout = (HEADERS / "layout.h").read_text()
    plugin = (HEADERS / "plugin.h").read_text()
    names = set(re.findall(r"\(\*(\w+)\)\s*\(", plugin)) - {"mp_plugin_entry"}
    assert len(names) > 35
    missing = [name for name in names if not re.search(rf"offsetof\(mp_(host|plugin), {name}\)", layout)]
    assert missing == []


def test_the_header_uses_no_type_whose_size_depends_on_the_machine():
    for header in ("types.h", "plugin.h"):
        code = re.sub(r"/\*.*?\*/", "", (HEADERS / header).read_text(), flags=re.S)
        assert not re.search(r"\b(bool|long|size_t|enum|union|float|double|unsigned int)\b", code), header
