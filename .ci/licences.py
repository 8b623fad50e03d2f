"""Writes the tables of requirements in docs/licences.md from what the installed packages say of themselves.

    python .ci/licences.py [--page docs/licences.md]

Needs all of requirements-dev.txt installed. The licence is what a package's metadata states: an SPDX expression, else a
one-line `License`, else the classifiers, else the first line of its licence file.
"""

import argparse
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by make licences -->", "<!-- end -->"


def main() -> None:
    """Rewrites the part of the page between the two marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "licences.md")
    page = parser.parse_args().page
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{tables()}{END}{after}", encoding="utf-8")


def tables() -> str:
    """Returns the table of the direct requirements, and by licence what those bring."""
    direct: dict[str, str] = {}
    for path in sorted(ROOT.glob("requirements*.txt"), key=lambda path: (path.stem != "requirements", path.stem)):
        for name in re.findall(r"^([\w.-]+)(?:\[.*\])?==", path.read_text(encoding="utf-8"), re.MULTILINE):
            direct.setdefault(name, path.name)
    lines = ["", "| package | licence | named in |", "|---|---|---|"]
    lines += [f"| {name} | {licence(name)} | {file} |" for name, file in direct.items()]

    brought: dict[str, list[str]] = {}
    for name in sorted(locked() - {re.sub(r"[-_.]+", "-", name).lower() for name in direct}):
        if any(importlib.metadata.distributions(name=name)):  # not those of other platforms
            brought.setdefault(licence(name), []).append(name)
    lines += ["", "| licence | packages that those bring, on Linux |", "|---|---|"]
    lines += [f"| {stated} | {', '.join(names)} |" for stated, names in sorted(brought.items())]
    return "\n".join([*lines, "", ""])


def locked() -> set[str]:
    """Returns the names of all packages that the development environment holds."""
    text = (ROOT / ".ci" / "locks" / "requirements-dev.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))


def licence(name: str) -> str:
    """Returns what an installed package states."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"error: {name} isn't installed. Run `pip install -r requirements-dev.txt`")
    field = "".join(about.get_all("License") or []).strip()
    classifiers = [
        each.split(" :: ")[-1] for each in about.get_all("Classifier") or [] if each.startswith("License ::")
    ]
    stated = [each for each in classifiers if each.endswith("License") or "(" in each]
    if "License-Expression" in about:
        return str(about["License-Expression"])
    if field and field != "UNKNOWN" and "\n" not in field:
        return field.replace("|", "or")
    if stated:
        return ", ".join(stated)
    for file in importlib.metadata.files(name) or []:
        if re.fullmatch(r"(LICEN[CS]E|COPYING)(\.\w+)?", file.name):
            return f"not stated; its licence file: {file.read_text().strip().splitlines()[0].strip()}"
    return "not stated"


if __name__ == "__main__":
    main()
