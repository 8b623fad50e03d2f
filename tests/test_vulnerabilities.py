""".ci/audit.py: each outcome, by the real pip-audit against a service on this machine, or by a stand-in for it."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from conftest import ROOT

ID = "GHSA-aaaa-bbbb-cccc"


class Service(BaseHTTPRequestHandler):
    """Answers as OSV does; `known` holds name -> the versions that mend its one vulnerability."""

    known: ClassVar[dict[str, list[str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked.append(name)
        answer = {"vulns": [self.vulnerability(query["package"])]} if name in self.known else {}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def vulnerability(self, package):
        events = [{"introduced": "0"}, *({"fixed": version} for version in self.known[package["name"]])]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        return {"id": ID, "aliases": ["CVE-2026-1"], "summary": "reads any file", "affected": affected}

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def audit(tmp_path):
    """Runs .ci/audit.py on a lock of two packages."""
    (tmp_path / "lock.txt").write_text("".join(f"{name}==1.0 --hash=sha256:{'0' * 64}\n" for name in ("good", "bad")))

    def run(*options, ignored="", lock=tmp_path / "lock.txt", **environment):
        (tmp_path / "ignored.txt").write_text("# why\n" + ignored)
        files = ["--lock", lock, "--ignored", tmp_path / "ignored.txt", "--cache-dir", tmp_path / "cache"]
        command = [sys.executable, ROOT / ".ci" / "audit.py", *files, *options]
        environment = os.environ | {"NO_PROXY": "127.0.0.1"} | environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def url(service):
    return ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{service.server_port}/v1/query"]


@pytest.mark.parametrize(
    ("known", "ignored", "status", "expected"),
    [
        ({}, "", 0, "audited 2 packages; known vulnerabilities: 0\n"),
        ({"bad": []}, "", 0, f"  bad 1.0: CVE-2026-1, {ID}; no fix yet\n"),
        ({"bad": ["1.1", "2.0"]}, "", 1, f"  bad 1.0: CVE-2026-1, {ID}; fixed in 1.1, 2.0\n"),
        ({"bad": ["1.1"]}, "CVE-2026-1  we read no files\n", 0, "fixed in 1.1; ignored: we read no files\n"),
        ({"bad": ["1.1"]}, "CVE-2025-9  old\n", 1, "CVE-2025-9 is ignored and no longer found: its line can go\n"),
    ],
    ids=["none", "without a fix", "with a fix", "ignored", "another is ignored"],
)
def test_what_the_service_knows(audit, service, monkeypatch, known, ignored, status, expected):
    monkeypatch.setattr(Service, "known", known)
    monkeypatch.setattr(Service, "asked", [])
    done = audit(*url(service), ignored=ignored)
    assert expected in done.stdout, done.stderr
    assert f"known vulnerabilities: {len(known)}\n" in done.stdout
    assert (done.returncode, bool(done.stderr)) == (status, bool(status))
    assert set(Service.asked) == {"good", "bad"}


def test_a_service_that_is_not_there_fails_nothing(audit):
    done = audit("--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("warning: the vulnerability service can't be reached, so nothing was audited: ")
    assert len(done.stdout.splitlines()) == 1


def test_a_lock_that_cannot_be_read_fails(audit, tmp_path):
    (tmp_path / "bad.txt").write_text("good>=1\n")
    done = audit(lock=tmp_path / "bad.txt")
    assert done.returncode == 1
    assert done.stderr.startswith("error: pip-audit failed: ")
    assert "good>=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_to_ignore_needs_a_reason(audit):
    done = audit(ignored=f"{ID}\n")
    assert done.returncode == 1
    assert ID in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def stand_in(tmp_path):
    """Puts a module in the place of pip-audit."""

    def make(code):
        (tmp_path / "modules").mkdir(exist_ok=True)
        (tmp_path / "modules" / "pip_audit.py").write_text(code)
        return {"PYTHONPATH": str(tmp_path / "modules")}

    return make


def test_a_registry_without_the_service_is_asked_once(audit, stand_in, tmp_path):
    """It answers "not found" for every package, which pip-audit takes for a success."""
    answer = {"dependencies": [{"name": "good", "skip_reason": "not found"}], "fixes": []}
    fake = f"import sys\nopen({str(tmp_path / 'calls')!r}, 'a').write('x')\nprint({json.dumps(answer)!r})\n"
    done = audit(**stand_in(fake))
    assert done.returncode == 0
    assert done.stdout == (
        "warning: the vulnerability service can't be reached, so nothing was audited: it knows no package of lock.txt\n"
    )
    assert (tmp_path / "calls").read_text() == "x"


def test_packages_that_the_service_does_not_know_are_counted(audit, stand_in):
    known = {"name": "good", "version": "1.0", "vulns": []}
    answer = {"dependencies": [known, {"name": "bad", "skip_reason": "not found"}], "fixes": []}
    done = audit(**stand_in(f"print({json.dumps(answer)!r})\n"))
    assert (done.returncode, done.stdout) == (
        0,
        "audited 1 packages, 1 more unknown to the service; known vulnerabilities: 0\n",
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys; sys.exit('pip_audit._service.interface.ServiceError: 503')", 0),
        ('import sys; sys.exit("ERROR: Could not connect to PyPI\'s vulnerability feed")', 0),
        ("raise ImportError('pip_audit is half installed')", 1),
    ],
)
def test_only_the_service_is_forgiven(audit, stand_in, code, status):
    done = audit(**stand_in(code))
    assert done.returncode == status, done.stderr
    assert ("nothing was audited" in done.stdout) == (status == 0)


def test_the_list_of_the_project_is_read():
    text = (ROOT / ".ci" / "ignored-vulnerabilities.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert line.startswith("#") or len(line.split()) > 3, "an id and a reason"


def test_ci_audits_before_the_tests():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines.index("make audit") < lines.index("make test")
