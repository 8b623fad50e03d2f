import math
import re
import sys

import pytest
from conftest import ROOT, change
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.library.common import params
from stages.library.common.guarded_files import shortened
from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.params import ParamsError
from stages.library.settings import Params
from tests import processes

LITE0 = "efficientnet_lite0"


def test_the_default_file_is_valid_and_frozen(default_params):
    loaded = Params(default_params)
    assert loaded["joined"] == []
    assert loaded["dataset"].name == "digits"
    assert loaded["ridge"].penalties == tuple(default_params["ridge"]["penalties"])
    assert loaded["backbones"] == ["efficientnet_lite0"]
    with pytest.raises(AttributeError):
        loaded["dataset"].name = "folder"


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("dataset.name", "imagenet", "must be among"),
        ("dataset.archive", "x.zip", "given together"),
        ("dataset.archive_sha256", "abc", "pattern"),
        ("split.validation", 0, "greater than 0"),
        ("split.test", 1.0, "less than 1"),
        ("split.validation", 0.9, "`validation` [+] `test` must be < 1"),
        ("split.seed", -1, "greater than or equal to 0"),
        ("split.seed", 1.5, "must be an integer"),
        ("split.seed", True, "must be an integer"),
        ("tfrecord.shards", 0, "greater than or equal to 1"),
        ("tfrecord.max_rejected", math.nan, "must be a (finite )?number"),
        ("extract.input_size_px", 31, "greater than or equal to 32"),
        ("extract.input_size_px", 1025, "less than or equal to 1024"),
        ("extract.input_size_px", 96.5, "must be an integer"),
        ("extract.central_crop", 0, "greater than or equal to 0.01"),
        ("extract.central_crop", 1.1, "less than or equal to 1"),
        ("extract.resize", "area", "bilinear_tf1"),
        ("extract.geometry", "stretch", "'crop', 'squash' or 'pad'"),
        ("scratch.geometry", None, "'crop', 'squash' or 'pad'"),
        ("extract.flip", "yes", "must be true or false"),
        ("extract.batch_size", 0, "greater than or equal to 1"),
        ("extract.batch_size", 4097, "less than or equal to 4096"),
        ("extract.batch_size", "64", "must be an integer"),
        ("extract.weights", {"vgg": "x"}, "keys must be .*efficientnet_lite0, .*inception_v3.*vgg"),
        ("extract.weights", {"inception_v3": 3}, "`extract.weights.inception_v3`"),
        ("extract.runtime", "torch", "'tensorflow'"),
        ("extract.precision", "float8", "'float32'"),
        ("extract.precision", "int8", "`precision` must be float32 or float16 with `runtime` tensorflow"),
        ("extract.calibration_images", 0, "greater than or equal to 1"),
        ("extract.seed", -1, "greater than or equal to 0"),
        ("extract.engine", "spark", "'local'"),
        ("class_weights", "auto", r"^params.yaml: `class_weights` must be 'none' or 'balanced'"),
        ("class_weights", ["cat"], "'none' or 'balanced'"),
        ("class_weights", {"cat": 1, "dog": 0}, r"^params.yaml: `class_weights.dog` must be greater than 0"),
        ("class_weights", {"cat": math.inf}, "`class_weights.cat` must be a (finite )?number"),
        ("class_weights", {"cat": True}, "`class_weights.cat` must be a number"),
        ("cross_validation.folds", 1, "greater than or equal to 2"),
        ("ridge.features", "pixels", "'bottleneck', 'logits', 'probabilities' or 'joined'"),
        ("ridge.penalties", [1.0, -1.0], "greater than 0"),
        ("ridge.penalties", [], "at least 1"),
        ("softmax.momentum", 1.0, "less than 1"),
        ("dnn.hidden_units", [0], "greater than or equal to 1"),
        ("dnn.dropout", 1.0, "less than 1"),
        ("xgboost.colsample_byround", 0.7, "must be 1 or at most 0.5"),
        ("xgboost.max_depth", 0, "greater than or equal to 1"),
        ("finetune.flip", "yes", "`finetune.flip` must be true, false or alternating. Received: 'yes'"),
        ("finetune.flip", 1, "must be true, false or alternating"),
        ("scratch.convolutions", 0, "greater than or equal to 1"),
        ("scratch.pooling", None, "'none', 'max' or 'average'"),
        ("finetune.warmup_epochs", 6.0, r"must be < `epochs`\. Received: {'epochs': \d+, 'warmup_epochs': 6\.0}$"),
        ("finetune.unfrozen_blocks", -1, "greater than or equal to 0"),
        ("finetune.reinitialized_blocks", 6, "`reinitialized_blocks` must be <= `unfrozen_blocks`"),
        ("finetune.reinitialized_blocks", 1, "`head_epochs` must be 0 where"),
        ("finetune.optimizer", "rmsprop", "'adamw'"),
        ("finetune.schedule", "linear", "'cosine'"),
        ("finetune.steps_per_epoch", 0, "greater than or equal to 1"),
        ("scratch.channels", [8, 8], "`kernels_px` must have as many items as `channels`"),
        ("scratch.channels", [], "at least 1"),
        ("scratch.kernels_px", [7, 3, 0], "`scratch.kernels_px.2`"),
        ("scratch.hidden_units", [0], "`scratch.hidden_units.0`"),
        ("scratch.activation", "step", "'linear', 'relu', 'gelu' or 'silu'"),
        ("fewshot.heads", ["perceptron"], "must be among .*ridge"),
        ("fewshot.heads", ["ridge", "ridge"], "twice"),
        ("fewshot.shots", [1], "greater than or equal to 2"),
        ("fewshot.shots", [15, 15], "twice"),
        ("fewshot.repeats", 1, "greater than or equal to 2"),
        ("fewshot.folds", 1, "greater than or equal to 2"),
        ("fewshot.background", "clutter", "must be a list"),
        ("evaluate.images", 0, "greater than or equal to"),
        ("evaluate.selection_metric", "accuracy", "'top1_accuracy', 'balanced_accuracy', 'macro_f1' or 'log_loss'"),
        ("backbones", [], "at least one"),
        ("backbones", "efficientnet_lite0", "must be a list"),
        ("backbones", ["alexnet"], "must be among"),
        ("heads", ["ridge", "ridge"], "twice"),
        ("joined", f"{LITE0}+xception", "must be a list"),
        ("joined", [3], "must be a list"),
        ("joined", [LITE0], r"must name two or more different backbones, as in a\+b"),
        ("joined", [f"{LITE0}+{LITE0}"], "must name two or more different"),
        ("joined", [f"{LITE0}+"], "must name two or more different|`backbones`"),
        ("joined", [f"{LITE0}+xception"], "must join what is in `backbones`; xception is not"),
    ],
)
def test_a_broken_rule_names_key_rule_and_value(default_params, key, value, rule):
    with pytest.raises(ParamsError) as caught:
        Params(change(default_params, {key: value}))
    message = str(caught.value)
    section, _, name = key.partition(".")
    assert f"`{section}" in message
    assert name in message
    assert re.search(rule, message)
    assert "Received: " in message or "x.zip" in message


def test_backbones_are_joined_once_whatever_their_order(default_params):
    change(default_params, {"backbones": [LITE0, "xception", "inception_v3"]})
    two, three = f"{LITE0}+xception", f"xception+inception_v3+{LITE0}"
    assert Params(change(default_params, {"joined": [two, three]}))["joined"] == [two, three]
    for other in (two, f"xception+{LITE0}"):
        with pytest.raises(ParamsError, match=r"must not join the same backbones twice, in any order\. Received: "):
            Params(change(default_params, {"joined": [two, other]}))


@pytest.mark.parametrize("key", params.FORMER_KEYS)
def test_a_key_of_an_earlier_release_says_what_to_do(default_params, key):
    section, _, name = key.partition(".")
    assert name not in default_params[section]
    with pytest.raises(ParamsError) as caught:
        Params(change(default_params, {key: 1}))
    assert str(caught.value) == f"params.yaml: `{key}` {params.FORMER_KEYS[key]}. Received: 1"


def test_bad_items_unknown_and_missing_keys_are_named_once_each_and_all(default_params):
    with pytest.raises(ParamsError) as caught:
        Params(change(default_params, {"ridge.penalties": [-1]}))
    assert str(caught.value) == "params.yaml: `ridge.penalties.0` must be greater than 0. Received: -1"
    del default_params["ridge"]["penalties"]
    default_params["ridge"]["penalty"] = 1.0
    default_params["sofmax"] = default_params.pop("softmax")
    with pytest.raises(ParamsError) as caught:
        Params(default_params)
    for part in ("`ridge.penalties` is missing", "`ridge.penalty` is unknown. Received: 1.0", "`sofmax` is unknown"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("tfrecord.include", [], "must have at least 1 item"),
        ("tfrecord.include", "*.jpg", "must be a list"),
        ("dnn.hidden_units", [1] * 101, "must have at most 100 items"),
        ("dataset.name", 5, "must be a text"),
        ("extract.flip", "yes", "must be true or false"),
        ("extract.weights", ["a"], "must be a mapping"),
        ("dnn", 3, "must be a mapping"),
        ("dnn.dropout", "much", "must be a number"),
        ("dnn.epochs", "ten", "must be an integer"),
    ],
)
def test_rules_are_told_in_the_words_of_the_file(default_params, key, value, rule):
    with pytest.raises(ParamsError) as caught:
        Params(change(default_params, {key: value}))
    assert str(caught.value) == f"params.yaml: `{key}` {rule}. Received: {shortened(value)}"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(["dataset", "split", "ridge", "finetune", "backbones", "joined", "heads", "evaluate"]),
)
def test_hostile_sections_never_give_anything_but_a_params_error(content, section):
    assume((section, content) != ("joined", []))  # the only one that is right
    with pytest.raises(ParamsError):
        Params(read_yaml(ROOT / "params.yaml") | {section: content})


def test_reading_all_parameters_imports_nothing_that_takes_long():
    code = "import sys; from pathlib import Path; from stages.library.settings import load_params\n"
    code += "load_params(Path('params.yaml')); print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(processes.run(sys.executable, "-c", code).stdout.split())
    assert "pydantic" in loaded
    assert not loaded & {"tensorflow", "keras", "sklearn", "scipy", "xgboost", "pandas", "matplotlib", "requests"}
