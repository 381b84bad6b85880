# SPDX-License-Identifier: Apache-2.0
"""What a built plugin's ELF file must look like: plugin rules 24 to 28.

MILEPOST_DIST names the folder of the built plugins (default .build/dist/plugins).
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(os.environ.get("MILEPOST_DIST", ROOT / ".build/dist/plugins"))
PLUGINS = sorted(DIST.glob("*.so")) or sorted(DIST.glob("plugins/*.so"))
ALLOWED = re.compile(r"^(libc|libm|libgcc_s|libstdc\+\+|libpthread|libdl|librt|ld-linux[-\w]*)\.so\.\d+$")
# The standard library, its concurrency and the runtime are 7 MB; Foundation's essentials would be 6 more.
LARGEST = 9_000_000

pytestmark = pytest.mark.skipif(not PLUGINS, reason=f"no plugins in {DIST}: run make build first")


def readelf(path, *options):
    return subprocess.run(
        ["readelf", "-W", *options, str(path)], check=True, capture_output=True, text=True,
        env={**os.environ, "LC_ALL": "C"}, timeout=60,
    ).stdout


def exported(path):
    """Names that others can bind to: defined in the dynamic table, not local."""
    names = set()
    for line in readelf(path, "--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit():
            _, _, _, _, binding, _, section, name = fields[:8]
            if binding != "LOCAL" and section != "UND":
                names.add(name.split("@")[0])
    return names


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
class TestPluginFile:
    def test_exports_the_entry_and_nothing_else(self, path):
        assert exported(path) == {"milepost_plugin_v1"}

    def test_is_a_shared_object_for_this_machine(self, path):
        header = readelf(path, "--file-header")
        assert re.search(r"Type:\s+DYN", header)
        assert {"x86_64": "X86-64", "aarch64": "AArch64"}[os.uname().machine] in header

    def test_needs_the_c_library_and_its_company_only(self, path):
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", readelf(path, "--dynamic"))
        assert needed
        assert [name for name in needed if not ALLOWED.match(name)] == []

    def test_looks_for_libraries_nowhere_else(self, path):
        assert not re.search(r"\((RUNPATH|RPATH)\)", readelf(path, "--dynamic"))

    def test_has_no_text_relocations_and_no_static_tls(self, path):
        assert not re.search(r"TEXTREL|STATIC_TLS", readelf(path, "--dynamic"))

    def test_stack_is_not_executable(self, path):
        stack = re.search(r"GNU_STACK\s+(.*)", readelf(path, "--program-headers"))
        assert stack and " RWE " not in f" {stack.group(1)} "

    def test_relocations_are_read_only_and_bound_at_load(self, path):
        assert "GNU_RELRO" in readelf(path, "--program-headers")
        assert re.search(r"BIND_NOW|Flags:.*\bNOW\b", readelf(path, "--dynamic"))

    def test_every_undefined_name_is_versioned_or_weak(self, path):
        """Nothing is left for the host to supply by accident, above all no Swift runtime."""
        loose = []
        for line in readelf(path, "--dyn-syms").splitlines():
            fields = line.split()
            if len(fields) >= 8 and fields[6] == "UND" and fields[4] == "GLOBAL" and "@" not in fields[7]:
                loose.append(fields[7])
        assert loose == []

    def test_is_not_too_large(self, path):
        assert path.stat().st_size < LARGEST
        assert path.with_suffix(".json").is_file()
