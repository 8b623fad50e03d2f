"""docs/licences.md says of each backbone, data set and requirement what the code and the installed packages say."""

import importlib
import importlib.metadata
import re
import subprocess
import sys

import pytest
from conftest import ROOT

from stages.library import backbones
from stages.library.datasets import NAMES

PAGE = ROOT / "docs" / "licences.md"
TEXT = PAGE.read_text(encoding="utf-8")


def rows(heading):
    """Returns the cells of the rows below a heading, without the tables' first two lines."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row, below in zip(cells, [*cells[1:], [""]], strict=True) if row[0] != "---" and below[0] != "---"]


def test_every_published_weight_file_is_there_with_its_licence():
    names = sorted(path.stem for path in (ROOT / "stages/library/backbones").glob("*.py") if path.stem != "__init__")
    in_code = {
        (name, variant): weights.licence
        for name in names
        for variant, weights in backbones.lookup(name).BACKBONE.weights.items()
    }
    assert len(in_code) > 8
    assert {(name.strip("`"), variant.strip("`")): licence for name, variant, licence, _ in rows("Weights")} == in_code
    assert all(source for *_, source in rows("Weights"))


def test_every_data_set_is_there():
    named = {name for row in rows("Data sets") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(NAMES)


def written(name, folder):
    """Runs the program on a copy of the page and returns what it wrote."""
    page = folder / name
    page.write_text(re.sub(r"(<!-- written.*?-->\n).*(<!-- end -->)", r"\1\2", TEXT, flags=re.DOTALL), encoding="utf-8")
    command = [sys.executable, ROOT / ".ci" / "licences.py", "--page", page]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return page.read_text(encoding="utf-8")


def as_locked():
    """Returns whether the environment holds the locked versions, as `make` installs them on Linux."""
    text = (ROOT / ".ci" / "locks" / "requirements-dev.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    installed = {
        name: importlib.metadata.version(name) for name in versions if any(importlib.metadata.distributions(name=name))
    }
    return sys.platform == "linux" and all(versions[name] == version for name, version in installed.items())


def test_the_direct_requirements_are_as_their_packages_say(tmp_path):
    before, again = (
        re.findall(r"^\| .* \| .* \| requirements.*", page, re.M) for page in (TEXT, written("a", tmp_path))
    )
    assert before == again, "make licences"
    named = set()
    for path in ROOT.glob("requirements*.txt"):
        named |= set(re.findall(r"^([\w.-]+)(?:\[.*\])?==", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert {line.split(" | ")[0].strip("| ") for line in before} == named


@pytest.mark.skipif(not as_locked(), reason="installed without the locks: other releases may state it differently")
def test_what_they_bring_is_as_their_packages_say(tmp_path):
    assert written("page.md", tmp_path) == TEXT, "make licences"


def test_a_licence_is_looked_for_where_packages_state_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    licences = importlib.import_module("licences")
    monkeypatch.syspath_prepend(str(tmp_path))
    stated = {
        "one": ("License-Expression: MIT OR Apache-2.0\nLicense: something else\n", "MIT OR Apache-2.0"),
        "two": ("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", "BSD"),
        "three": ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        "four": ("Classifier: License :: DFSG approved\n", "not stated; its licence file: Terms of four"),
        "five": ("License: A | B\n", "A or B"),
    }
    for name, (metadata, expected) in stated.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
        (folder / "LICENSE").write_text(f"\n  Terms of {name}\nmore\n")
        (folder / "RECORD").write_text(f"{name}-1.0.dist-info/LICENSE,,\n")
        assert licences.licence(name) == expected
    with pytest.raises(SystemExit, match="isn't installed"):
        licences.licence("six-that-is-not-there")
