"""benchmarks/RESULTS.md, a section per script.

Owns how a section is found and replaced, so that each script can be run by itself.
"""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nWritten by the scripts in this folder; each section names the command that repeats it.\n"


def read_section(title: str) -> list[str]:
    """Return the lines of the section that is there, none if there is none."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEAD
    found = [part for part in re.split(r"(?m)^(?=## )", text) if part.startswith(f"## {title}\n")]
    return found[0].splitlines() if found else []


def write_section(
    title: str, body: str, command: str, packages: tuple[str, ...] = ("duanti", "jieba", "numpy")
) -> None:
    """Put a section into RESULTS.md, in place of the one with the same title."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    section = f"## {title}\n\n`{command}`  \nPython {platform.python_version()}, {versions}\n\n{body}\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _HEAD
    others = [part for part in re.split(r"(?m)^(?=## )", text) if not part.startswith(f"## {title}\n")]
    RESULTS.write_text("\n".join(part.rstrip() + "\n" for part in [*others, section]), encoding="utf-8")
