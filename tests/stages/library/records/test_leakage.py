"""An evaluation never sees training images, and no choice sees test images: by key, at run time."""

import contents
import described
import evaluated
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.library.common.console import UserError
from stages.library.records import leakage
from tests.stages.test_train_heads import write_bottlenecks

CLASSES, LABELS = ["cat", "dog"], [0, 1, 0, 1]
LOGITS = np.eye(2)[LABELS]
KINDS = {"head": leakage.OF_HEAD, "finetuned": leakage.OF_NETWORK, "scratch": leakage.OF_NETWORK}


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(0, 5))
def test_more_common_images_than_the_data_set_published_are_an_error(tmp_path_factory, trained, tested, known):
    folder = tmp_path_factory.mktemp("network")
    leakage.write(folder, [f"{number:064x}" for number in trained for _ in range(2)])
    names = {f"{number:064x}": f"{number}.png" for number in tested}
    if len(common := trained & tested) <= known:
        leakage.check(folder, names, known)
    else:
        counts = f"{len(common)} of the {len(tested)} distinct test images, more than the {known} that"
        first = rf"'{min(common)}\.png' \(sha256 {min(common):064x}\)"
        with pytest.raises(UserError, match=rf"^{folder} was trained on {counts} .* {first}\. Run: dvc repro$"):
            leakage.check(folder, names, known)


def test_the_keys_of_a_network_are_text_sorted_and_compressed_even_where_there_are_none(tmp_path):
    for keys in (["b" * 64, "a" * 64, "b" * 64], []):
        leakage.write(tmp_path, keys)
        path = tmp_path / leakage.OF_NETWORK
        assert pq.read_schema(path).field("key").type == pa.string()
        assert pq.read_table(path)["key"].to_pylist() == sorted(set(keys))
        groups = pq.read_metadata(path)
        assert {groups.row_group(n).column(0).compression for n in range(groups.num_row_groups)} <= {"ZSTD"}


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluates a model that was trained on some of the test images; `known` is how many the data set has in both."""

    def run(kind, seen, known=0):
        keys = evaluated.write_shards(tmp_path / "tfrecord", CLASSES, LABELS)
        content = described.dataset("noise", CLASSES)
        content["duplicates"]["across_official_split"] = known
        monkeypatch.setattr(described, "dataset", lambda *_, **__: content)
        path = evaluated.write_model(tmp_path / "models" / "model", kind) / KINDS[kind]
        path.unlink()
        if seen is not None:
            evaluated.write_trained_on(path, [*keys[:seen], "0" * 64])
        monkeypatch.setattr(evaluated, "write_model", lambda folder, _: folder)
        return evaluated.evaluate(tmp_path, "model", CLASSES, LABELS, LOGITS, "ridge", kind)

    return run


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (1, r"model was trained on 1 of the 4 distinct test images.*'0\.png' \(sha256"),
        (None, r"trained on, can't be read .*Run: dvc repro"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_saw_a_test_image_or_does_not_say_what_it_saw_is_rejected(tmp_path, evaluate, kind, seen, message):
    with pytest.raises(UserError, match=message):
        evaluate(kind, seen)
    assert not (tmp_path / "metrics").exists()
    assert not (tmp_path / "evaluation").exists()


@pytest.mark.parametrize(("seen", "known"), [(0, 0), (2, 2)])
def test_copies_that_the_data_set_published_in_both_are_allowed(evaluate, seen, known):
    assert evaluate("head", seen, known)["top1_accuracy"] == 1


def test_a_damaged_list_is_a_one_line_error_with_the_reason(tmp_path):
    leakage.write(tmp_path, ["a" * 64])
    path = tmp_path / leakage.OF_NETWORK
    damages = {"magic bytes not found in footer": path.read_bytes()[:-9], "file size is 0 bytes": b""}
    for reason, content in (damages | {"smaller than the size reported by footer": b"PAR1" * 9}).items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^.*trained_on\.parquet, the images .*({reason}).*\. Run: dvc repro$"):
            leakage.check(tmp_path, {}, 0)


@pytest.mark.parametrize("head", ["ridge", "logistic"])
def test_a_head_is_chosen_calibrated_and_trained_without_the_test_split(tmp_path, run_stage, write_params, head):
    source, other = write_bottlenecks(tmp_path / "a", n=60), write_bottlenecks(tmp_path / "b", n=50, labels=(2,))
    params, path = write_params(), source / "test-00000-of-00001.parquet"
    trained: list[dict] = []
    other_classes = (other / "train-00000-of-00002.parquet").read_bytes()
    for content in (None, (source / "validation-00000-of-00001.parquet").read_bytes(), b"no features", other_classes):
        if content is not None:
            path.write_bytes(content)
        out = tmp_path / str(len(trained))
        run_stage("train_heads", "--params", params, "--head", head, "--bottlenecks", source, "--out", out)
        trained.append(contents.of(out))
    assert trained == trained[:1] * 4
