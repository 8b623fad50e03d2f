"""Asks a vulnerability service about every package of .ci/locks, by pip-audit, and says what came of it.

    python .ci/audit.py [--lock FILE]... [--ignored FILE] [options of pip-audit, such as: --vulnerability-service osv]

Exit status 1: a known vulnerability has a fix and isn't in .ci/ignored-vulnerabilities.txt, or a lock can't be read.
A service that can't be reached is said and is no error: what is out of the project's hands must not stop it.
Costs a request for each package, and a wait of 4 minutes at most.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMIT_SECONDS = 120
# What pip-audit writes to stderr where the service is to blame, or the way to it.
SERVICE_FAILED = ("ConnectionError", "ServiceError", "requests.exceptions.", "vulnerability feed", "not redirecting")


class UnreachableError(Exception):
    """The service gave no answer."""


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a locked version; `ids` are its id and the aliases."""

    package: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def ignored_by(self, reasons: dict[str, str]) -> str | None:
        """Returns the reason to let it pass, or None."""
        return next((reasons[name] for name in self.ids if name in reasons), None)


def main() -> None:
    """Audits all locks and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, action="append", help="default: all of .ci/locks")
    parser.add_argument("--ignored", type=Path, default=HERE / "ignored-vulnerabilities.txt")
    options, passed_on = parser.parse_known_args()
    locks = options.lock or sorted((HERE / "locks").glob("*.txt"))
    reasons = read_ignored(options.ignored)
    try:
        # A registry without the service answers "not found" to each question: one lock is enough to learn that.
        smallest = min(locks, key=lambda path: path.stat().st_size)
        answers = ask([smallest], passed_on)
        if not audited(answers):
            raise UnreachableError(f"it knows no package of {smallest.name}")
        if len(locks) > 1:
            answers = ask(locks, passed_on)
    except UnreachableError as error:
        print(f"warning: the vulnerability service can't be reached, so nothing was audited: {error}")
        return
    sys.exit(report(answers, reasons))


def read_ignored(path: Path) -> dict[str, str]:
    """Returns id -> reason."""
    reasons = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, reason = line.strip().partition(" ")
        if name and not name.startswith("#"):
            if not reason.strip():
                sys.exit(
                    f"error: {path.name}: a line must be an id and a reason. Received: {name!r}. Say why it may pass"
                )
            reasons[name] = reason.strip()
    return reasons


def ask(locks: list[Path], passed_on: list[str]) -> list[dict[str, Any]]:
    """Returns pip-audit's answer for each package; those that the service doesn't know have a `skip_reason`."""
    files = [word for path in locks for word in ("--requirement", str(path))]
    # The locks name all packages, so there is nothing to resolve or to download.
    fixed = ["--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off"]
    command = [sys.executable, "-m", "pip_audit", *fixed, *files, *passed_on]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no answer within {LIMIT_SECONDS} seconds") from None
    if done.stdout.startswith("{"):
        answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return answers
    last = (done.stderr.strip() or "no output").splitlines()[-1]
    if any(sign in done.stderr for sign in SERVICE_FAILED):
        raise UnreachableError(last)
    sys.exit(f"error: pip-audit failed: {last}")


def audited(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the answers for packages that the service knows."""
    return [answer for answer in answers if "skip_reason" not in answer]


def report(answers: list[dict[str, Any]], reasons: dict[str, str]) -> int:
    """Prints what was found and returns the exit status."""
    findings = [
        Finding(f"{answer['name']} {answer['version']}", (each["id"], *each["aliases"]), tuple(each["fix_versions"]))
        for answer in audited(answers)
        for each in answer["vulns"]
    ]
    known = len(audited(answers))
    unknown = f", {len(answers) - known} more unknown to the service" if known < len(answers) else ""
    print(f"audited {known} packages{unknown}; known vulnerabilities: {len(findings)}")
    for finding in findings:
        fix = f"fixed in {', '.join(finding.fixed_in)}" if finding.fixed_in else "no fix yet"
        reason = finding.ignored_by(reasons)
        print(f"  {finding.package}: {', '.join(finding.ids)}; {fix}" + (f"; ignored: {reason}" if reason else ""))
    for name in sorted(reasons.keys() - {name for finding in findings for name in finding.ids}):
        print(f"  {name} is ignored and no longer found: its line can go")
    to_mend = [finding for finding in findings if finding.fixed_in and not finding.ignored_by(reasons)]
    if to_mend:
        print(
            f"error: {len(to_mend)} of them can be mended. Raise the version (requirements*.txt, or `make lock "
            "UPGRADE=--upgrade`), or give the id and a reason in .ci/ignored-vulnerabilities.txt",
            file=sys.stderr,
        )
    return 1 if to_mend else 0


if __name__ == "__main__":
    main()
