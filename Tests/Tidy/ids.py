# SPDX-License-Identifier: Apache-2.0
"""Requirements that a test must name, so that a search for an id finds what holds it.

Ranges of section letters in the requirements' own numbering. Whoever builds a further section adds it here; what is left
out has its reason beside it.
"""

from __future__ import annotations

IN_SCOPE: dict[str, list[range]] = {
    "ING": [range(1, 5), range(6, 16)],  # 5 needs a timeline and rolling rules
    "PCON": [range(3, 14), range(15, 17), range(18, 21)],  # 1, 2 and 14 are web pages, 17 is OAuth
    "SEC": [range(1, 15)],
    "REA": [range(1, 9)],
    "THR": [range(1, 21)],
    "DEAL": [range(1, 13)],
    "DUP": [range(1, 6), range(7, 8)],  # 6 is the timeline's
    "CFG": [range(1, 12)],
    "FLD": [range(1, 6), range(7, 12)],  # 6 reads mirrors
    "HOOK": [range(1, 10)],
    "EXC": [range(1, 7)],
    "PLAN": [range(1, 7)],
    "RATE": [range(1, 4), range(5, 10), range(11, 12), range(13, 15)],  # 4 and 10 are mirrors; 12: no batch endpoint there
    "HCON": [range(1, 11)],
    "RES": [range(1, 10)],
    "TL": [range(1, 12)],
    "PROP": [range(1, 14)],
    "RULE": [range(1, 22)],
    "OAU": [range(1, 17)],
    "PAT": [range(1, 6)],
    "TRB": [range(1, 10)],
    "OBS": [range(1, 9)],
    "PRV": [range(1, 4), range(5, 7)],
    "ACC": [range(1, 6)],
    "Z": [range(5, 14)],
    "EXT": [range(1, 11), range(14, 16), range(18, 19)],
}


def required() -> list[str]:
    return [f"{section}-{number:02}" for section, parts in IN_SCOPE.items() for part in parts for number in part]
