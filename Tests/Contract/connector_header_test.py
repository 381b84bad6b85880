# SPDX-License-Identifier: Apache-2.0
"""`milepost/connector.h`, which connectors in C include: it stands alone without a warning, and its JSON reader takes what comes."""
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror", f"-I{ROOT / 'include'}"]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", ["json.h", "connector.h", "connector_host.h"])
def test_each_header_compiles_alone_without_a_warning(compiler, header):
    said = subprocess.run(
        [compiler, "-x", "c", "-std=c11", *STRICT, "-fsyntax-only", "-"], input=f"#include <milepost/{header}>\n", text=True,
        capture_output=True, timeout=60).stderr
    assert said == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_json_reader_takes_what_comes(compiler, tmp_path):
    program = tmp_path / "json_test"
    subprocess.run(
        [compiler, "-std=c11", "-g", "-fsanitize=address,undefined", *STRICT, "-o", program, ROOT / "Tests/Contract/connector_json_test.c"],
        check=True, timeout=100)
    run = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stdout == "all passed\n", run.stdout + run.stderr
