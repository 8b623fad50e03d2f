"""What stands around the code: licence, citation, container, templates and the pages of contributors agree."""

import json
import re
import tomllib

import pytest
from conftest import ROOT, read_yaml

from tests import processes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_agrees_with_the_project():
    citation = read_yaml("CITATION.cff")
    assert citation["title"].lower() == PROJECT["name"]
    assert citation["abstract"] == PROJECT["description"]
    assert citation["license"] == PROJECT["license"]
    assert "version" not in citation  # pyproject.toml alone states it


def test_the_licence_is_the_one_that_is_named():
    first = " ".join(text("LICENSE").split()[:4])
    assert (first, PROJECT["license"]) == ("Apache License Version 2.0,", "Apache-2.0")
    assert len(text("LICENSE").splitlines()) > 200
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_changelog_has_the_version_below_what_is_unreleased():
    versions = re.findall(r"^## \[(.+)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["version"]]


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [("vendor.citation-file-format", "CITATION.cff"), ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE/*.yml")],
)
def test_services_understand_the_files(schema, pattern):
    files = sorted(ROOT.glob(pattern))
    assert files
    processes.run("check-jsonschema", "--default-filetype", "yaml", "--builtin-schema", schema, *files)


def test_the_container_has_the_python_and_the_extensions_of_the_project():
    assert re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:\d+-3\.11-\w+", CONTAINER["image"])
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    recommended = json.loads(text(".vscode/extensions.json"))["recommendations"]
    assert CONTAINER["customizations"]["vscode"]["extensions"] == recommended


def test_the_container_is_set_up_as_make_repro_is(tmp_path):
    """In a copy of the Makefile and the locks, where nothing is installed."""
    (tmp_path / "Makefile").write_text(text("Makefile"), encoding="utf-8")
    (tmp_path / ".ci").symlink_to(ROOT / ".ci")

    def steps(*command):
        return processes.run(*command, "--dry-run", cwd=tmp_path).stdout.splitlines()

    made = steps(*CONTAINER["postCreateCommand"].split())
    assert any("-m venv .venv" in line for line in made)
    assert steps("make", "repro")[: len(made)] == made


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", ".github/pull_request_template.md"])
def test_what_a_page_names_is_there(page):
    content = text(page)
    links = {link for link in re.findall(r"\]\(([^)#]+)", content) if "://" not in link}
    paths = set(re.findall(r"`([\w.]+/[\w./]*|[\w]+\.(?:yaml|toml|md))`", content)) - {"metrics/"}
    # What the pipeline writes is not there on a clean checkout, whatever stands in this one.
    stages = read_yaml("dvc.yaml")["stages"].values()
    outs = [out for stage in stages for kind in ("outs", "plots") for out in stage.get(kind, ())]
    written = tuple(f"{next(iter(out)) if isinstance(out, dict) else out}/" for out in outs)
    missing = {name for name in links | paths if not f"{name}/".startswith(written) and not (ROOT / name).exists()}
    assert missing == set()
    for target in re.findall(r"(?:`|^)make ([\w-]+)", content, re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", text("Makefile"), re.MULTILINE), target
