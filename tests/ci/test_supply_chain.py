"""`make audit` and `make sbom`, by the real programs: what fails CI, and what a bill of materials holds."""

import json
import re
import shutil
import sys

import pytest
from conftest import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests import processes

ID = "GHSA-aaaa-bbbb-cccc"
ALIAS = "CVE-2026-1"
CI = ".ci/ignored-vulnerabilities.txt"


def osv(handler):
    """Answers as OSV does: the package "bad" has a vulnerability. A plain request shows that it is there."""
    asked = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", 0))) or "{}")
    affected = [{"package": asked.get("package"), "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]
    found = {"id": ID, "aliases": [ALIAS], "summary": "reads any file", "affected": affected}
    is_bad = asked.get("package", {}).get("name") == "bad"
    body = json.dumps({"vulns": [found]} if is_bad else {}).encode()
    handler.answer(404 if handler.path == "/missing" else 200, body)


@pytest.fixture
def service(server):
    server.behaviours = [osv]
    return server.url("").rstrip("/")


@pytest.fixture
def make(tmp_path):
    """Runs a target of the Makefile in a folder with locks of two packages, as if everything were installed."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (".ci/locks/requirements.txt", ".ci/locks/requirements-dev.txt", CI):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{package}==1.0 --hash=sha256:{'0' * 64}\n" for package in ("good", "bad"))
        (tmp_path / name).write_text(text if "locks" in name else "# why\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in (".installed", ".installed-dev"):
        (tmp_path / ".venv" / "bin" / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = "make", "--no-print-directory"
    return lambda *words: processes.run(*command, *words, cwd=tmp_path, check=False, NO_PROXY="127.0.0.1")


def audit(make, service):
    osv = f"--vulnerability-service osv --osv-url {service}/v1/query"
    return make("audit", f"SERVICE={service}", f"AUDIT={osv}")


def test_a_known_vulnerability_fails_the_audit_unless_it_has_a_reason(make, service, tmp_path):
    done = audit(make, service)
    assert done.returncode != 0
    assert "Found 1 known vulnerability in 1 package" in done.stderr
    assert re.search(rf"^bad +1\.0 +({ID}|{ALIAS})", done.stdout, re.MULTILINE)
    (tmp_path / CI).write_text("CVE-2025-9 another one\n")
    assert audit(make, service).returncode != 0
    for name in (ID, ALIAS):
        (tmp_path / CI).write_text(f"# why\n{name} we read no files\n")
        done = audit(make, service)
        assert (done.returncode, "1 ignored" in done.stderr) == (0, True), done.stderr


def test_a_service_that_is_not_there_fails_nothing(make, service):
    for url in ("http://127.0.0.1:9", f"{service}/missing"):
        done = make("audit", f"SERVICE={url}")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"warning: {url} can't be asked, so nothing was audited\n"


def test_a_lock_that_cannot_be_read_fails(make, service, tmp_path):
    (tmp_path / ".ci" / "locks" / "requirements.txt").write_text("good>=1\n")
    done = audit(make, service)
    assert done.returncode != 0
    assert "good" in done.stderr


def test_to_ignore_needs_a_reason():
    for line in (ROOT / CI).read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or len(line.split()) > 3, "an id and a reason"


def test_ci_audits_before_the_tests():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines.index("make audit") < lines.index("make test-all")


@pytest.mark.slow
def test_the_bill_of_materials_is_valid_and_names_what_is_locked(make, tmp_path):
    shutil.copy(ROOT / ".ci" / "locks" / "requirements-web.txt", tmp_path / ".ci" / "locks")
    done = make("sbom", "LOCK=requirements-web.txt")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "sbom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    lock = (ROOT / ".ci" / "locks" / "requirements-web.txt").read_text(encoding="utf-8")
    listed = {(component["name"], component["version"]) for component in json.loads(text)["components"]}
    assert listed == set(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    assert json.loads(text)["metadata"]["component"]["name"] == "decant"
    assert str(tmp_path) not in text
    assert make("sbom", "LOCK=requirements-web.txt").returncode == 0
    assert (tmp_path / "sbom.cdx.json").read_text(encoding="utf-8") == text
    assert make("sbom", "LOCK=no.txt").returncode != 0
