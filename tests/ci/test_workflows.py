""".github/workflows: valid by GitHub's schema, safe for forks, and what they call exists and does what it should."""

import os
import re
import sys

import pytest
from conftest import ROOT, read_yaml
from ruamel.yaml import YAML

from app.pull_request import comment
from tests import processes

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps():
    """Yields (workflow, job, step) of all workflows."""
    for path in WORKFLOWS:
        for name, job in read_yaml(path)["jobs"].items():
            yield from ((path.stem, name, step) for step in job["steps"])


RUNS = [
    pytest.param(step["run"], id=f"{path}-{job}-{i}") for i, (path, job, step) in enumerate(steps()) if "run" in step
]


def test_the_linters_find_nothing():
    processes.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    # Finds what gives the code of a pull request more rights than it needs; the persona is its strictest but one.
    processes.run("zizmor", "--offline", "--no-progress", "--persona", "pedantic", *WORKFLOWS)


def test_the_linter_would_find_an_injection(tmp_path):
    path = tmp_path / ".github" / "workflows" / "bad.yml"
    path.parent.mkdir(parents=True)
    text = (ROOT / ".github" / "workflows" / "pull-request.yml").read_text(encoding="utf-8")
    path.write_text(text.replace("make ci-repro", "echo ${{ github.event.pull_request.title }}"), encoding="utf-8")
    done = processes.run("zizmor", "--offline", path, check=False)
    assert "template-injection" in done.stdout


def test_every_action_is_pinned_to_a_commit():
    used = [step["uses"] for _, _, step in steps() if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[\w/-]+@[0-9a-f]{40}", name)] == []
    assert len({name for name in used if name.startswith("actions/cache/")}) == 2  # restore and save


@pytest.mark.parametrize("script", RUNS)
def test_what_a_step_calls_exists(script):
    processes.run("bash", "-n", "-c", script)
    for target in re.findall(r"^make (\S+)", script, re.M):
        processes.run("make", "--dry-run", target, "BASE=main")
    first = script.split()[0]
    assert first in ("make", "cat") or first.startswith("comments=") or os.access(ROOT / first, os.X_OK)


def test_no_job_that_runs_code_of_a_pull_request_may_write():
    for path in WORKFLOWS:
        workflow = read_yaml(path)
        assert workflow["permissions"] == {}
        assert "pull_request_target" not in workflow["on"]
        for job in workflow["jobs"].values():
            checks_out = any(step.get("uses", "").startswith("actions/checkout@") for step in job["steps"])
            assert ("write" not in job["permissions"].values()) or not checks_out


def test_compare_hands_all_to_the_program(tmp_path):
    """The step as GitHub runs it, with a `make` that only shows what it would run."""
    [(job, step)] = [(job, step) for _, job, step in steps() if step.get("name") == "compare"]
    environment = step["env"] | read_yaml(".github/workflows/pull-request.yml")["jobs"][job]["env"]
    assert set(environment) >= {"RUN", "GATES"}
    script = step["run"].replace("make ", "make --dry-run ")
    given = {"GITHUB_BASE_REF": "main", "RUN": "https://github.com/a/b/actions/runs/1", "GATES": environment["GATES"]}
    shown = processes.run("bash", "-e", "-c", script, **given).stdout
    assert shown.splitlines()[-1] == (
        'python -m app.pr_report --base "$BASE" --max-drop top1_accuracy=0.02 '
        "--link https://github.com/a/b/actions/runs/1#artifacts"
    )


FAKE_GH = """\
#!{python}
import json, sys
with open("calls.jsonl", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if "--paginate" in sys.argv:
    print({earlier!r}, end="")
"""


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [("", ["POST", "repos/a/b/issues/7/comments"]), ("11\n12\n", ["PATCH", "repos/a/b/issues/comments/12"])],
)
def test_the_comment_is_written_once_and_then_replaced(tmp_path, earlier, expected):
    script = next(step["run"] for _, job, step in steps() if job == "comment" and "run" in step)
    assert f'startswith("{comment.MARKER}")' in script
    (tmp_path / "gh").write_text(FAKE_GH.format(python=sys.executable, earlier=earlier))
    (tmp_path / "gh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "a/b", "NUMBER": "7"}
    processes.run("bash", "-e", "-c", script, cwd=tmp_path, **environment)
    calls = [YAML(typ="safe").load(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert calls[0][:3] == ["api", "--paginate", "repos/a/b/issues/7/comments"]
    assert calls[1:] == [["api", "--silent", "--method", *expected, "--field", "body=@comment.md"]]
