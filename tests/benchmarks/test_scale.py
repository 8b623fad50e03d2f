"""benchmarks.scale: its project has all stages, and its figures are those of the processes that it runs."""

import re
import sys
from argparse import Namespace

import pytest
from conftest import ROOT, read_yaml

from benchmarks import scale
from tests import processes


def command(code):
    return {"name": "one", "cmd": f'python -c "{code}"', "outs": ["out"]}


def test_memory_and_bytes_are_those_of_the_stage_and_what_it_starts(tmp_path):
    inner = "import time; kept = bytearray(200 << 20); time.sleep(0.5); open('out', 'wb').write(bytes(3 << 20))"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{inner}'''], check=True)"
    cost = scale.run(tmp_path, command(outer.replace('"', '\\"')))
    assert cost.out_mib == 3
    assert 200 <= cost.peak_mib < 300
    assert cost.seconds > 0.5 > cost.cpu_seconds


def test_a_stage_that_fails_ends_the_run_with_its_last_line(tmp_path):
    with pytest.raises(SystemExit, match="one failed: error: no room"):
        scale.run(tmp_path, command("import sys; print('first'); sys.exit('error: no room')"))


@pytest.mark.slow
def test_its_project_has_every_stage_in_an_order_in_which_they_can_run(tmp_path):
    scale.make_project(tmp_path / "made", 100, Namespace(shards=None, runtime="tensorflow", heads=scale.HEADS))
    names = [stage["name"].partition("@")[0] for stage in scale.stages(tmp_path / "made")]
    others = {"train-joined", "fewshot-joined", "evaluate-joined", "combine-finetuned"}
    assert set(names) == set(read_yaml("dvc.yaml")["stages"]) - others
    assert names.index("fetch") < names.index("tfrecord") < names.index("bottleneck-extract") < names.index("audit")
    assert names[-1] == "report"
    given = "--images=100", "--work", tmp_path, "--stages", "inputs", "fetch", "tfrecord"
    (tmp_path / "made").rename(tmp_path / "100")
    printed = processes.run(sys.executable, "-m", "benchmarks.scale", *given, cwd=ROOT).stdout
    rows = re.findall(r"^(\S+) +[\d.]+ +[\d.]+ +\d+ +([\d.]+)$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == ["inputs", "fetch", "tfrecord"]
    assert 0.1 < float(rows[-1][1]) < 1  # 100 images
