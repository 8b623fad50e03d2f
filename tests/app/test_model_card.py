"""The model card: what Hugging Face's own reader finds in it, and that other people's names are shown as they are."""

import json

import described
import pytest
from conftest import ROOT
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from app.exporting import model_card
from app.exporting.formats import FORMATS
from app.exporting.model_card import Facts
from stages.library.scoring.metrics import wilson_interval

HOSTILE = (
    "![x](http://example.com/x.png)",
    "<script>alert(1)</script>",
    "[a](http://example.com) https://example.com",
    "a | b `c` *d* _e_ \\ ~~f~~",
    'license: mit\n---\n"quoted": \u202e# 猫 \U0001f408',
)
METRICS = {
    "top1_accuracy": 0.75,
    "top1_accuracy_interval": {"low": 0.5, "high": 0.9},
    "top5_accuracy": 0.9,
    "macro_f1": 0.7,
    "expected_calibration_error": 0.0321,
    "num_examples": 20,
    "classes": {name: {"recall": 0.5 + index / 10, "count": 10} for index, name in enumerate(HOSTILE)},
}


def facts(**changes):
    dataset = described.dataset("folder", HOSTILE)
    given = Facts(
        "efficientnet_lite0/ridge", HOSTILE, ["efficientnet_lite0"], ["Apache-2.0"], METRICS, dataset, "birds"
    )
    return given._replace(**changes)


def card(form="onnx", **changes):
    return ModelCard(model_card.render(facts(**changes), FORMATS[form], 12_345_678))


@pytest.mark.parametrize(("form", "library"), [("onnx", "onnx"), ("tflite", "tflite"), ("saved_model", "tensorflow")])
def test_the_front_matter_is_what_the_hub_reads(form, library):
    data = card(form).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", library, "image-classification")
    assert data.tags == ["image-classification", "decant", form, "efficientnet_lite0"]
    assert data.datasets is None  # people's own are nowhere on the Hub
    assert data.metrics == ["accuracy", "f1", "expected_calibration_error"]
    assert data.model_name == "efficientnet_lite0/ridge"
    found = {each.metric_name: (each.metric_type, each.metric_value) for each in data.eval_results}
    assert found["top-1 accuracy"] == ("accuracy", 0.75)
    assert found["macro F1"] == ("f1", 0.7)
    assert len(found) == 4
    places = {(each.task_type, each.dataset_type, each.dataset_name, each.dataset_split) for each in data.eval_results}
    assert places == {("image-classification", "birds", "birds", "test")}


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([], ("unknown", None)),
        (["MIT"], ("mit", None)),
        (["DINOv3 License"], ("other", "dinov3-license")),
        (["Apache-2.0", "unknown: a local file"], ("other", "apache-2.0-and-unknown-a-local-file")),
    ],
)
def test_the_licence_is_that_of_the_weights(licences, expected):
    found = card(licences=licences)
    assert (found.data.license, found.data.get("license_name")) == expected
    shown = ", ".join(licences) or "none, for the network was trained from scratch"
    assert f"- Pretrained weights: {shown}.\n" in found.text


def tokens(markdown):
    """Yields all tokens as GitHub reads them."""
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        yield token
        yield from token.children or ()


def test_names_are_shown_as_they_are():
    name = HOSTILE[-1]
    found = card(data=name)
    assert {each.dataset_name for each in found.data.eval_results} == {found.data.eval_results[0].dataset_name}
    assert "quoted" in found.data.eval_results[0].dataset_name
    kinds = {token.type for token in tokens(found.text)}
    assert not {"image", "link_open", "html_inline", "html_block", "s_open", "em_open", "strong_open"} & kinds
    plain = "".join(token.content for token in tokens(found.text) if token.type in ("text", "text_special"))
    for each in HOSTILE[:4]:
        assert plain.count(each) == 2  # in the list of classes, and among those that are recognised least
    assert r"\n---\n" in plain
    assert "猫 \U0001f408" in plain
    rows = [token for token in tokens(found.text) if token.type == "tr_open"]
    assert len(rows) == (1 + 3) + (1 + 4) + (1 + 5)
    assert r"# efficientnet\_lite0/ridge" in found.text


def test_intervals_stand_beside_what_was_measured():
    text = card().text
    assert "| 0.7500 | 0.5000 to 0.9000 |" in text
    low, high = wilson_interval(18, 20)
    assert f"| 0.9000 | {low:.4f} to {high:.4f} |" in text
    low, high = wilson_interval(5, 10)
    assert f"| 0.5000 | {low:.4f} to {high:.4f} | 10" in text
    assert "differ from how often they are right by 0.0321" in text


def test_what_is_unlike_the_training_images_is_told_where_the_model_can():
    assert "can't say that it is none of them" in card().text
    found = card(unlike_below=0.01).text
    assert "- Output `farther_out`: float32 (n,)" in found
    assert "below 1.0%, the answer means little" in found
    assert "can't say" not in found


def test_a_network_as_it_was_published_has_no_results_of_ours():
    found = card(model="imagenet/efficientnet_lite0", metrics=None, dataset=None, data="ImageNet")
    assert found.data.eval_results is None
    assert found.data.datasets == ["ILSVRC/imagenet-1k"]
    assert "It was not tested here." in found.text
    assert "## Metrics" not in found.text


def test_licences_of_data_sets_are_those_of_the_docs():
    rows = [line.split("|") for line in (ROOT / "docs" / "licences.md").read_text(encoding="utf-8").splitlines()]
    for name, (hub, licence) in model_card.DATASETS.items():
        assert [row[2].strip() for row in rows if len(row) > 3 and f"`{name}`" in row[1]] == [licence]
        dataset = described.dataset(name)
        found = card(dataset=dataset, data=name)
        assert found.data.datasets == ([hub] if hub else None)
        assert found.data.eval_results[0].dataset_type == (hub or name)
        assert f"- Data: {licence}." in found.text
    assert json.loads(json.dumps(found.data.to_dict()))
