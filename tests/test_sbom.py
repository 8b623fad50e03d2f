"""`make sbom`: valid CycloneDX, the same on every run, and true: it says what is installed."""

import importlib.metadata
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

LOCK = ROOT / ".ci" / "locks" / "requirements.txt"


def write(out, lock=LOCK):
    """Runs the program and returns the bytes that it wrote."""
    command = [sys.executable, ROOT / ".ci" / "sbom.py", "--lock", lock, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.fixture(scope="module")
def sbom(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sbom") / "sbom.cdx.json")


def test_it_is_valid(sbom):
    content = json.loads(sbom)
    # One package of each licence, as the rest looks alike and takes 8 seconds of CPU.
    kinds = {json.dumps(component.get("licenses")): component for component in content["components"]}
    assert len(kinds) > 15
    content["components"] = list(kinds.values())
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(content)) is None
    del content["components"][0]["name"]
    assert validator.validate_str(json.dumps(content)) is not None


def test_it_is_the_same_on_every_run_and_names_no_place(sbom, tmp_path):
    assert write(tmp_path / "again.json") == sbom
    content = json.loads(sbom)
    assert "serialNumber" not in content
    assert "timestamp" not in content["metadata"]
    assert str(ROOT).encode() not in sbom
    assert sys.prefix.encode() not in sbom
    assert b"file:" not in sbom


def test_it_says_what_is_installed_and_needed(sbom):
    content = json.loads(sbom)
    listed = {component["name"]: component["version"] for component in content["components"]}
    locked = re.findall(r"^([\w.-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    installed = {name for name in locked if any(importlib.metadata.distributions(name=name))}
    assert len(installed) > 100
    assert {canonicalize_name(name) for name in listed} == installed
    for name, version in listed.items():
        assert version == importlib.metadata.version(name)
    assert not {"pytest", "ruff", "mypy"} & set(listed)  # of the checks only


def test_it_tells_what_needs_what(sbom):
    content = json.loads(sbom)
    names = {component["bom-ref"]: component["name"] for component in content["components"]}
    needs = {each["ref"]: {names[ref] for ref in each.get("dependsOn", ())} for each in content["dependencies"]}
    project = content["metadata"]["component"]
    assert project["name"] == "decant"
    written = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {canonicalize_name(name) for name in needs.pop(project["bom-ref"])} == set(map(canonicalize_name, written))
    assert needs.keys() == names.keys()
    (keras,) = (ref for ref, name in names.items() if name == "keras")
    assert {"h5py", "numpy"} <= needs[keras]


def test_a_lock_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, ROOT / ".ci" / "sbom.py", "--lock", tmp_path / "no.txt", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no.txt" in done.stderr
