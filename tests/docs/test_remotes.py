"""docs/remotes.md: its commands are run, as they stand there, against an S3 server on this machine."""

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import requests
from conftest import ROOT
from repository import FEATURES, PARAMS, Repository, made

DOC = (ROOT / "docs" / "remotes.md").read_text(encoding="utf-8")
PLACES = {"BUCKET": "bucket", "CONTAINER": "container", "ACCOUNT": "account", "HOST": "host.example.org"}
SECRETS = {"KEY": "the-key", "SECRET": "the-secret", "CONNECTION": "the-connection", "USER": "someone"}

SERVER = """\
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


def blocks(heading):
    """Returns the commands under a heading of the page, a script for each block."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", DOC, re.M | re.S)
    found = [block.strip() for block in re.findall(r"^```sh\n(.*?)```", section, re.M | re.S)]
    assert found
    return found


def runnable(script, endpoint=""):
    """Fills in the names of places; installing is left out, for it needs a package registry."""
    lines = [line for line in script.splitlines() if not line.startswith("pip install")]
    for name, value in PLACES.items():
        lines = [re.sub(rf"\b{name}\b", value, line) for line in lines]
    return "\n".join(lines).replace("https://s3.example.org", endpoint)


def execute(repository, script, endpoint="", check=True, **environment):
    return repository.run("bash", "-e", "-c", runnable(script, endpoint), check=check, **environment)


@pytest.fixture(scope="module")
def endpoint():
    """Address of an S3 server that holds a bucket."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", SERVER], text=True, **pipes) as server:
        assert server.stdin
        assert server.stdout
        address = next(line.strip() for line in server.stdout if line.startswith("http://"))
        requests.put(f"{address}/bucket", timeout=30).raise_for_status()
        yield address
        server.stdin.close()


def aws(endpoint):
    where = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    return where | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="module")
def pushed(endpoint, tmp_path_factory):
    """A repository whose commits are in a bare one, `origin`, and whose outs are in the bucket, as the page says.

    Beside what main has, the bucket has a run with other features.
    """
    folder = tmp_path_factory.mktemp("remote")
    repository = made(folder / "first")
    address, secrets, server = blocks("S3, and servers that speak its language")
    execute(repository, address)
    for script in (secrets, server):
        execute(repository, script, endpoint, **SECRETS)
    repository.commit("endpoint")
    repository.git("clone", "--quiet", "--bare", repository.path, folder / "origin")
    repository.git("remote", "add", "origin", folder / "origin")
    repository.git("push", "--quiet", "--set-upstream", "origin", "main")
    (push,) = blocks("Push")
    done = execute(repository, push)
    assert "Cache and remote 'storage' are in sync." in done.stdout
    change(repository)
    repository.dvc("repro")
    repository.dvc("push", "--run-cache")
    repository.git("checkout", "--quiet", ".")
    return repository


def change(repository):
    """Another version of the first stage, on which all others depend."""
    repository.write("features.py", FEATURES.replace('"features")\n', '"better features")\n', 1))


@pytest.fixture
def clone(pushed, tmp_path):
    """A new clone, with no cache and no secrets."""
    pushed.git("clone", "--quiet", pushed.path.parent / "origin", tmp_path / "clone")
    return Repository(tmp_path / "clone")


@pytest.mark.slow
def test_a_second_clone_pulls_and_runs_no_stage(clone, endpoint):
    """That they do without a remote is tested below, of what CI runs."""
    done = execute(clone, blocks("Pull")[0], **aws(endpoint))
    assert "Data and pipelines are up to date." in done.stdout
    assert clone.runs() == []
    assert (clone.path / "artifacts" / "features.txt").read_text() == "features"
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_what_somebody_else_has_run_is_pulled_while_reproducing(clone, endpoint):
    """Only what has metrics in Git runs again; without --pull, all would."""
    change(clone)
    _, pull, repro = blocks("Pull")
    execute(clone, f"{pull}\n{repro}", **aws(endpoint))
    assert clone.runs() == ["tiny ridge", "tiny softmax"]
    assert (clone.path / "artifacts" / "features.txt").read_text() == "better features"


@pytest.mark.slow
def test_data_that_nobody_pushed_is_computed(clone, endpoint, pushed, tmp_path):
    clone.write("params.yaml", PARAMS.replace("0.8", "0.5"))
    clone.dvc("repro", "--quiet")
    clone.commit("a lock that was not pushed")
    clone.git("clone", "--quiet", clone.path, tmp_path / "third")
    third = Repository(tmp_path / "third")
    assert third.dvc("pull", "--run-cache", check=False, **aws(endpoint)).returncode == 1
    execute(third, blocks("Pull")[1], **aws(endpoint))
    third.dvc("repro")
    assert third.runs() == ["tiny softmax"]


@pytest.mark.slow
def test_ci_takes_the_remote_from_the_environment(clone, endpoint):
    clone.dvc("remote", "remove", "storage")
    (script,) = blocks("In CI")
    shutil.copytree(ROOT / ".ci", clone.path / ".ci")
    done = execute(clone, script, **aws(endpoint))
    assert "Data and pipelines are up to date." in done.stdout
    assert clone.runs() == []
    assert "ci" not in (clone.path / ".dvc" / "config").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["none", "unreadable"])
def test_ci_computes_everything_without_a_remote(clone, endpoint, remote):
    clone.dvc("remote", "remove", "storage")
    address = {"DVC_REMOTE_URL": "s3://nosuch/decant"} if remote == "unreadable" else {}
    done = clone.run(ROOT / ".ci" / "repro", **(aws(endpoint) | address))
    assert clone.runs() == ["features", "tiny ridge", "tiny softmax"]
    assert ("::warning::the remote 'ci' can't be read" in done.stdout) == (remote == "unreadable")


@pytest.mark.slow
def test_plots_of_the_base_are_read_from_the_remote(clone, endpoint):
    clone.write("params.yaml", PARAMS.replace("0.8", "0.5"))
    clone.dvc("repro", "--quiet")
    shutil.rmtree(clone.path / ".dvc" / "cache")
    clone.run(sys.executable, "-m", "app.pr_report", "--base", "main", **aws(endpoint))
    text = (clone.path / "pr-report" / "comment.md").read_text(encoding="utf-8")
    assert "**2 plots differ.**" in text


FILL = """\
import numpy as np
from stages.library.common import store_location
from stages.library.extraction.feature_store import FeatureStore, Rows

keys = np.array([f"{number:064x}" for number in range(3)], "S64")
store = FeatureStore(store_location.root() / ("t" * 64), {"backbone": "tiny"}, 4, 2)
store.put(Rows(keys, np.ones((3, 4), np.float16), np.ones((3, 2), np.float16)), "digits")
"""


@pytest.mark.slow
def test_the_feature_store_is_shared_by_a_bucket(pushed, clone, endpoint):
    (script,) = blocks("Share the feature store")
    pushed.run(sys.executable, "-c", FILL, DECANT_STORE="s3://bucket/features", **aws(endpoint))
    shown = execute(clone, script, **aws(endpoint)).stdout
    assert re.search(r"^tiny .* digits +3 ", shown, re.M)
    assert "s3://bucket/features: 3 images" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "url", "secret"),
    [
        ("S3, and servers that speak its language", "s3://bucket/decant", "the-secret"),
        ("Google Cloud Storage", "gs://bucket/decant", "decant-service-account.json"),
        ("Azure", "azure://container/decant", "the-connection"),
        ("SSH", "ssh://host.example.org/srv/decant", "/.ssh/decant"),
    ],
)
def test_an_address_is_committed_and_a_secret_is_not(tmp_path, heading, url, secret):
    repository = Repository(tmp_path / "project")
    repository.path.mkdir()
    repository.git("init", "--quiet")
    repository.dvc("init", "--quiet")
    repository.commit("empty")
    for script in blocks(heading):
        execute(repository, script, "https://s3.example.org", **SECRETS)
    repository.commit("everything that Git sees")
    assert f"url = {url}" in repository.git("show", "HEAD:.dvc/config")
    assert secret in (repository.path / ".dvc" / "config.local").read_text()
    assert secret not in repository.git("log", "--patch", "--all")
    assert repository.dvc("remote", "list").stdout.split() == ["storage", url, "(default)"]


def test_no_command_of_the_page_is_left_out():
    """Each block is under a heading whose blocks a test above runs."""
    ran = ["S3, and servers that speak its language", "Google Cloud Storage", "Azure", "SSH", "Push", "Pull"]
    ran += ["Share the feature store", "In CI"]
    assert sum(len(blocks(heading)) for heading in ran) == DOC.count("```sh\n")
