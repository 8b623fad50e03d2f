"""app.estimate: more work takes longer, on a slower machine too, and the words are a guide."""

from pathlib import Path

import pytest
from conftest import ROOT, changed_params

from app import estimate
from stages.library.settings import load_params

QUICK = "ridge", "logistic"


@pytest.fixture
def seconds(monkeypatch, tmp_path):
    def seconds(images, slowness=1.0, classes=30, **changes):
        monkeypatch.setattr(estimate, "product_seconds", lambda: slowness * estimate.PRODUCT_SECONDS)
        params = changed_params(tmp_path, {key.replace("__", "."): changes[key] for key in changes})
        return estimate.seconds(images, classes, load_params(Path(params)), QUICK)

    return seconds


def test_each_image_pixel_network_head_and_epoch_takes_its_time_where_it_is_spent(seconds):
    first, rest = seconds(1000)
    assert first < rest
    assert all(more > less for more, less in zip(seconds(2000), (first, rest), strict=True))
    assert seconds(1000, slowness=3.0) == pytest.approx((3 * first, 3 * rest))
    assert all(more > less for more, less in zip(seconds(1000, classes=60), (first, rest), strict=True))
    assert seconds(1000, finetune__epochs=12)[0] == first
    assert seconds(1000, finetune__epochs=12)[1] > rest
    # At 256 px an image has four times the pixels that it has at 128 px; two views are twice the work.
    wide, narrow = (seconds(10**6, extract__input_size_px=side)[0] - seconds(0)[0] for side in (256, 128))
    heads = 2 * 2 * 10**6 * estimate.QUICK_SECONDS
    assert wide - heads == pytest.approx(4 * (narrow - heads))
    assert seconds(10**6, extract__flip=True)[0] - seconds(0)[0] - heads == pytest.approx(2 * (narrow - heads))
    one = load_params(ROOT / "params.yaml")["heads"]
    assert seconds(1000, heads=[*QUICK])[1] < rest
    assert set(QUICK) < set(one)
    two = {"backbones": ["efficientnet_lite0", "xception"]}
    joined = seconds(1000, **two, joined=["efficientnet_lite0+xception"])
    assert all(more > less for more, less in zip(joined, seconds(1000, **two), strict=True))
    assert seconds(1000, backbones=["efficientnet_lite0", "inception_v3"])[0] > 2 * first


def test_this_machine_multiplies():
    assert 0 < estimate.product_seconds() < 60


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.1, "about 10 s"),
        (44, "about 40 s"),
        (89, "about 90 s"),
        (91, "about 2 min"),
        (3000, "about 50 min"),
        (9e4, "about 25 h"),
    ],
)
def test_words(number, words):
    assert estimate.shown(number) == words
