"""A combination on disk comes back as it was, and a damaged or foreign one is an error of one line."""

import json
import shutil

import numpy as np
import pytest

from stages.library.combination import combined
from stages.library.combination.averaging import Average
from stages.library.combination.combination import Found
from stages.library.combination.combined import Combined
from stages.library.combination.stacking import Stacked
from stages.library.common.console import UserError
from stages.library.heads.dense import Dense, DenseNetwork
from stages.library.heads.out_of_fold import OutOfFold

NAMES = "lite0/ridge", "lite0/finetuned", "a+b/ridge"
CLASSES = "cat", "犬"
AVERAGE = Average(np.array([0.75, 0, 0.25], np.float32))
RNG = np.random.default_rng(0)
STACKED = Stacked(DenseNetwork((Dense(RNG.normal(size=(6, 2)).astype(np.float32), np.zeros(2, np.float32)),)))


@pytest.fixture
def heads(tmp_path):
    for name in NAMES:
        folder = tmp_path / "heads" / name
        folder.mkdir(parents=True)
        (folder / ("config.json" if name.endswith("finetuned") else "head.json")).write_text(name)
    return tmp_path / "heads"


def make(heads, rule):
    nothing = OutOfFold(np.empty(0), np.empty(0), np.empty((0, 2)), 2.0, {}, [])
    found = Found(rule, nothing, nothing, False, [], 0)
    folders = {name: heads / name for name in NAMES}
    return Combined.of("average" if rule is AVERAGE else "stacking", found, folders, CLASSES)


@pytest.mark.parametrize(("rule", "names"), [(AVERAGE, ["lite0/ridge", "a+b/ridge"]), (STACKED, list(NAMES))])
def test_what_is_loaded_predicts_as_what_was_saved(tmp_path, heads, rule, names):
    made = make(heads, rule)
    (tmp_path / "out").mkdir()
    made.save(tmp_path / "out")
    loaded = combined.load(tmp_path / "out")
    assert [member["name"] for member in loaded.members] == names
    assert (loaded.classes, loaded.temperature, loaded.alone) == (CLASSES, 2.0, False)
    probabilities = RNG.dirichlet((1, 1), (3, 4)).astype(np.float32)
    of_members = probabilities[[NAMES.index(name) for name in names]]
    assert np.array_equal(loaded.logits(of_members), rule.logits(probabilities) / np.float32(2))
    assert loaded.stale(heads.joinpath) is None


def test_a_head_trained_again_is_no_longer_the_member(tmp_path, heads):
    made = make(heads, AVERAGE)
    (heads / "lite0" / "finetuned" / "config.json").write_text("another, that has no weight")
    assert made.stale(heads.joinpath) is None
    (heads / "a+b" / "ridge" / "head.json").write_text("another")
    assert made.stale(heads.joinpath) == heads / "a+b" / "ridge"
    shutil.rmtree(heads / "lite0" / "ridge")
    assert made.stale(heads.joinpath) == heads / "lite0" / "ridge"


def test_a_network_is_known_again_by_the_file_that_has_the_hash_of_its_weights(heads):
    made, network = make(heads, STACKED), heads / "lite0" / "finetuned"
    (network / "last.weights.h5").write_text("what no prediction reads")
    assert made.stale(heads.joinpath) is None
    (network / "config.json").write_text("another")
    assert made.stale(heads.joinpath) == network
    (network / "config.json").unlink()
    assert made.stale(heads.joinpath) == network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": []}, "members"),
        ({"temperature": 0.0}, "temperature"),
        ({"classes": ["cat", "cat"]}, "classes"),
        ({"method": "mean"}, "method"),
        ({"members": [{"name": "../../etc/passwd", "sha256": "0" * 64, "weight": 1.0}]}, "name"),
        ({"members": [{"name": "a/b", "sha256": "0" * 64, "weight": float("nan")}]}, "weight|NaN"),
        ({"members": [{"name": f"a/b{n}", "sha256": "0" * 64, "weight": w} for n, w in enumerate((1.0, None))]}, "all"),
        ({"members": [{"name": "a/b", "sha256": "0" * 64, "weight": None}]}, "config.json can't be read"),
    ],
)
def test_a_damaged_one_is_an_error(tmp_path, heads, changes, message):
    (tmp_path / "out").mkdir()
    make(heads, AVERAGE).save(tmp_path / "out")
    path = tmp_path / "out" / "combined.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=rf"(?s)({message}).*Run: dvc repro"):
        combined.load(tmp_path / "out")
