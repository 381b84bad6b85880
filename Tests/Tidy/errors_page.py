# SPDX-License-Identifier: Apache-2.0
"""Makes docs/errors.md from the code.

    python3 Tests/Tidy/errors_page.py            writes the page
    python3 Tests/Tidy/errors_page.py --print    prints it
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"

# Heading, what it is about, where its codes come from.
SECTIONS = [
    ("REST problems", "The `code` of a problem document, with the status it comes with.", ["Sources/MilepostServer"]),
    ("Reasons of connections, crossings and deliveries",
     "The `reason_code` of `milepost explain`, of a delivery or of a connection that waits.",
     ["Sources/MilepostEngine", "Sources/MilepostRules", "Sources/MilepostStore"]),
    ("Rejected clicks", "The `code` of a rejection in the answer to `POST …/events` and in an import's reject file.",
     ["Sources/MilepostIntake"]),
    ("Plugins", "What the plugin host says when it answers in a plugin's place.", ["Sources/MilepostPluginHost"]),
]
ENUMERATIONS = [
    ("A plugin is refused", "Sources/MilepostPluginHost/PluginLoadError.swift"),
    ("Sending to a vendor", "Sources/MilepostEgress/Egress.swift"),
    ("Engine", "Sources/MilepostEngine/EngineError.swift"),
    ("Store", "Sources/MilepostStore/Store.swift"),
    ("The daemon cannot listen", "Sources/MilepostServer/Listening/ListenError.swift"),
    ("Vault and keys", "Sources/MilepostVault/VaultError.swift"),
]
NO_ERRORS = {"inline", "delivered"}  # codes of good news
MEANINGS = {
    # Cases that are named in one place and built in another, so that no sentence stands beside them.
    "fileUntrusted": "A file of the plugin belongs to somebody else than root or the daemon's user, or others may write it.",
    "fileMissing": "The shared object is not there.",
    "manifestMissing": "`<name>.json` is not beside `<name>.so`.",
    "manifestInvalid": "The manifest is not what it should be; the sentence names the key.",
    "manifestDisagrees": "The file differs from what the code's `describe` answers: they are of two versions.",
    "entryMissing": "The object does not export `milepost_plugin_v1`.",
    "abiMajorMismatch": "The plugin was made for another major of the ABI.",
    "hostTooOld": "The plugin needs a newer minor of the ABI: update Milepost.",
    "describeTooSlow": "`describe` took longer than its budget.",
    "sandboxUnavailable": "The kernel cannot confine the worker; `sandbox: best-effort` runs it all the same.",
    "connectFailed": "No connection; not one byte was sent.",
    "reset": "The connection was cut.",
    "responseTooLarge": "The answer is longer than the cap.",
    "tlsFailed": "No TLS: certificate or protocol.",
    "timeout": "The time of the request was up.",
    "key_ring_read_only": "The daemon may only read its key ring: run the command as root on its machine, then restart it.",
    "conflict": "It is not in a state that allows this.",
    "credentialRefused": "The vendor does not accept the credential.",
    "permissionMissing": "The credential works and its user lacks a right.",
    "pluginUnavailable": "The plugin is not enabled, refused, restarting or quarantined.",
    "rateLimited": "The vendor asks to wait.",
    "needsReauth": "The stored credential is dead.",
    "secretUnavailable": "The vault could not open or seal a credential.",
    "notFound": "There is no such thing.",
    "failed": "Something else went wrong; the sentence says what.",
    # Codes whose sentences are put together elsewhere.
    "manifest_invalid": "The manifest is not what it should be; the sentence names the key.",
    "not_found": "There is no such thing; the sentence names it.",
    "backup_unwritable": "The backup's file cannot be made or filled where it was asked for; the sentence says which and why.",
    "unauthenticated": "No bearer token came, or the daemon does not know it.",
    "needs_target": "Installed, and what it needs to deliver is not chosen yet; the sentence names it.",
    "plugin_crashed": "The worker ended in the middle of the operation; the sentence says by which signal or status.",
    "plugin_hung": "The worker did not answer within its deadline and was ended.",
    "plugin_quarantined": "It crashed on different records and is not started again before somebody looks.",
    "plugin_refused": "It was not loaded; the sentence says why.",
    "request_invalid": "The plugin asked for an HTTP request that cannot be made; the sentence says what is wrong with it.",
}
MESSAGE_AFTER = 700  # characters within which a code's own sentence follows it
HEAD = """# Error codes

Codes are stable: they appear in answers, in logs and in metrics, and what a program should look at. Sentences are for people
and may change. `…` stands for what is filled in. [The administrator's page](admin.md#when-something-is-wrong) has the cures
of what happens most.

This page is made by `Tests/Tidy/errors_page.py`; a test compares it with the code.
"""


LITERAL = r'"(?:\\.|[^"\\])*"'
# What may stand between two literals of one sentence: a value, or a choice in parentheses.
OTHER = r"\((?:[^()]|\([^()]*\))*\)|[\w.]+(?:\([^()]*\))?"
SENTENCE = re.compile(rf"\s*(?:(?:{OTHER})\s*\?\?\s*)?({LITERAL}(?:\s*\+\s*(?:{LITERAL}|{OTHER}))*)")
# A code's sentence, on its line or on a later one: the formatter breaks after the colon.
SAID = re.compile(r'[^"]{0,160}?\b(?:message|detail):(?=\s)')


def literal(source: str) -> str:
    """Swift string literals joined by + over any number of lines, with … for interpolations and values between them."""
    parts = SENTENCE.match(without_interpolations(source))
    if not parts:
        return ""
    pieces = re.findall(rf"({LITERAL})|({OTHER})", parts.group(1))
    joined = "".join(text[1:-1] if text else "…" for text, _ in pieces)
    said = re.sub(r"\s+", " ", re.sub("…+", "…", joined).replace('\\"', '"').replace("\\n", " ")).strip()
    return "" if said == "…" else said


def without_interpolations(source: str) -> str:
    result, at = [], 0
    while at < len(source):
        if source.startswith("\\(", at):
            depth, at = 1, at + 2
            while at < len(source) and depth:
                depth += {"(": 1, ")": -1}.get(source[at], 0)
                at += 1
            result.append("…")
        else:
            result.append(source[at])
            at += 1
    return "".join(result)


def coded(folder: str) -> dict[str, set[str]]:
    """Every `code: "…"` below a folder with the sentences that stand beside it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / folder).rglob("*.swift")):
        source = path.read_text()
        for match in re.finditer(r'\bcode: "([a-z][a-z0-9_]+)"', source):
            after = source[match.end():match.end() + MESSAGE_AFTER]
            said = SAID.match(after)
            sentence = literal(after[said.end():]) if said else ""
            found[match.group(1)].add(sentence)
    return found


def statuses() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (ROOT / "Sources/MilepostServer").rglob("*.swift"):
        stated = re.findall(r'status: (?:\.|HTTPResponse\.Status\(code: )(\w+)[^)\n]*\)?,\s*code: "([a-z_]+)"', path.read_text())
        for status, code in stated:
            found[code] = NUMBERS.get(status, status)
    return found


NUMBERS = {
    "badRequest": "400", "unauthorized": "401", "forbidden": "403", "notFound": "404", "conflict": "409", "contentTooLarge": "413",
    "unsupportedMediaType": "415", "unprocessableContent": "422", "tooManyRequests": "429", "internalServerError": "500",
    "badGateway": "502", "serviceUnavailable": "503", "insufficientStorage": "507", "methodNotAllowed": "405",
}


def sentences(folder: Path) -> dict[str, set[str]]:
    """Of every `code: .name` below a folder, the sentence beside it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.rglob("*.swift")):
        source = path.read_text()
        for match in re.finditer(r"\bcode: \.(\w+)", source):
            said = SAID.match(source[match.end():match.end() + MESSAGE_AFTER])
            if said:
                found[match.group(1)].add(literal(source[match.end() + said.end():match.end() + MESSAGE_AFTER]))
    return found


def cases(path: str) -> list[tuple[str, str]]:
    """The cases of the first `enum Code` in a file: raw value, and documentation or else the sentences they come with."""
    full = ROOT / path
    if not full.exists():
        return []
    body = re.search(r"enum Code: String[^{]*\{(.*?)\n    \}", full.read_text(), re.DOTALL)
    found, comment, said = [], "", sentences(full.parent)
    for line in (body.group(1) if body else "").splitlines():
        line = line.strip()
        if line.startswith("///"):
            comment = f"{comment} {line[3:].strip()}".strip()
        elif line.startswith("case "):
            for item in line[5:].split(","):
                name, _, raw = item.partition("=")
                if not comment and (fixed := MEANINGS.get(name.strip())):
                    comment = fixed
                spoken = "<br>".join(sorted(s.replace("|", "\\|") for s in said[name.strip()] if s))
                found.append((raw.strip().strip('"') or name.strip(), comment or spoken))
            comment = ""
    return found


def cures() -> dict[str, str]:
    source = (ROOT / "Sources/MilepostClient/Advice/Advice.swift").read_text()
    table = source[source.index("table: [String: String]"):]
    found = {}
    for match in re.finditer(r'"([a-z_]+)":\s*(?=")', table):
        found[match.group(1)] = literal(table[match.end():])
    return found


def page() -> str:
    lines, advice, numbers = [HEAD], cures(), statuses()
    for heading, about, folders in SECTIONS:
        found: dict[str, set[str]] = defaultdict(set)
        for folder in folders:
            for code, sentences in coded(folder).items():
                found[code] |= sentences
        lines += [f"## {heading}\n", about + "\n"]
        is_rest = heading.startswith("REST")
        lines += ["| code | status | says |", "| --- | --- | --- |"] if is_rest else ["| code | says |", "| --- | --- |"]
        for code in sorted(set(found) - NO_ERRORS):
            said = "<br>".join(sorted(s.replace("|", "\\|") for s in found[code] if s)) or MEANINGS.get(code, "")
            lines.append(f"| `{code}` | {numbers.get(code, '')} | {said} |" if is_rest else f"| `{code}` | {said} |")
        lines.append("")
    for heading, path in ENUMERATIONS:
        lines += [f"## {heading}\n", "| code | means |", "| --- | --- |"]
        lines += [f"| `{code}` | {meaning} |" for code, meaning in cases(path)]
        lines.append("")
    lines += ["## Cures\n", "What `milepost` adds to an error or a state it knows.\n", "| code | what to do |", "| --- | --- |"]
    lines += [f"| `{code}` | {cure} |" for code, cure in sorted(advice.items())]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(page(), end="")
    else:
        PAGE.write_text(page())
