"""benchmarks.gpu where there is no GPU: it says so, and still measures every way."""

import json
import re
import sys

import numpy as np
import pytest

from benchmarks import gpu
from tests import photos, processes


@pytest.mark.slow
def test_sets_are_parts_of_each_other_with_their_records(tmp_path):
    folder = tmp_path / "given" / "anything"
    folder.mkdir(parents=True)
    for seed in range(200):
        (folder / f"{seed}.jpg").write_bytes(photos.encoded(photos.photo(seed, (8, 8)), "JPEG"))
    work = tmp_path / "work"
    assert gpu.prepare(work, tmp_path / "given", 160) == {"set-0": 160, "set-1": 40, "set-2": 10}
    contents = [{path.read_bytes() for path in (work / f"set-{number}").glob("images/*/*")} for number in range(3)]
    assert contents[2] < contents[1] < contents[0]
    found = json.loads((work / "set-2" / "raw-tfrecord" / "dataset.json").read_text())
    assert found["images"] == len(contents[2]) == 10


def test_the_ratios_are_of_rounds_and_the_lower_bound_counts(capsys):
    speeds = {"extraction": [80, 90, 100], "raw, batches of 8": [100, 200, 400], "raw, batches of 16": [200, 100, 100]}
    gpu.show(
        {way: np.array(each) for way, each in (speeds | {"decoding": [500, 180, 200], "keras": [100] * 3}).items()}
    )
    printed = capsys.readouterr().out
    assert "extraction               90 (80 to 100) images/s" in printed
    assert "extraction / keras: 0.90 (0.80 to 1.00)" in printed
    assert "the lower of the best raw and decoding: 0.50 (0.40 to 0.50)" in printed


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_measures_the_cpu():
    options = ["--quick", "--images=160", "--rounds=1", "--networks", "efficientnet_lite0:32", "--batch-sizes", "8"]
    printed = processes.run(sys.executable, "-m", "benchmarks.gpu", *options, CUDA_VISIBLE_DEVICES="").stdout
    assert "THERE IS NO GPU" in printed
    assert "float16\n  left out" in printed
    assert re.search(r"160 images, 1 rounds, start-up \d+ s, CPU", printed), printed
    ways = re.findall(r"^  (\S.*?)  +[\d,]+ \(", printed, re.MULTILINE)
    assert ways == ["extraction", "raw, batches of 8", "decoding", "keras"]
    ratio = re.search(r"extraction / keras: ([\d.]+)", printed)
    assert ratio
    assert float(ratio[1]) > 0
