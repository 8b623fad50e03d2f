"""docs/licences.md says of each backbone, data set and demanding package what the code and the packages say."""

import itertools
import json
import re
import sys

from conftest import ROOT

from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.networks import contract as backbones
from stages.library.sources.contract import NAMES
from tests import processes

PAGE = ROOT / "docs" / "licences.md"
TEXT = PAGE.read_text(encoding="utf-8")


def rows(heading):
    """Returns the cells of the rows below a heading, without the tables' first two lines."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row, below in zip(cells, [*cells[1:], [""]], strict=True) if row[0] != "---" and below[0] != "---"]


def test_every_published_weight_file_is_there_with_its_licence():
    names = plugin_names(PLUGINS["backbones"])
    in_code = {
        (name, variant): weights.licence
        for name in names
        for variant, weights in backbones.lookup(name).BACKBONE.weights.items()
    }
    assert len(in_code) > 8
    on_page = [
        ((name, variant), licence)
        for names, variants, licence, source in rows("Weights")
        for name, variant in itertools.product(*(re.findall(r"`(\w+)`", cell) for cell in (names, variants)))
        if source
    ]
    assert len(dict(on_page)) == len(on_page)
    assert dict(on_page) == in_code


def test_every_data_set_is_there():
    named = {name for row in rows("Data sets") for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(NAMES)


def test_the_page_names_each_package_that_asks_for_more_than_its_notice():
    """By what `make licences` types, of what is installed here."""
    command = re.findall(r"^\t@(pip-licenses .*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[0].split()
    options = [*command[1:], "--python", sys.executable, "--format=json", "--no-version"]
    done = processes.run(sys.executable, "-m", "piplicenses", *options)
    stated = {package["Name"]: package["License"] for package in json.loads(done.stdout)}
    assert len(stated) > 100
    demanding = {name for name, licence in stated.items() if re.search("GPL|General Public|Proprietary", licence)}
    assert demanding
    (section,) = re.findall(r"^## Requirements\n(.*)", TEXT, re.M | re.S)
    assert {name for name in demanding if f"`{name}`" not in section} == set()
