"""Section `extract` of params.yaml, and what follows from it."""

import dataclasses

import insects
import pytest

from stages.library.common import params
from stages.library.common.console import UserError
from stages.library.extraction import extraction
from stages.library.extraction.extraction import Params
from stages.plugins.backbones import efficientnet_lite0, inception_v3


@pytest.mark.parametrize(("size_px", "expected"), [(32, 8), (96, 8), (128, 8), (129, 4), (160, 4), (224, 2), (299, 2)])
def test_batches_are_smaller_the_larger_the_images(size_px, expected):
    assert extraction.batch_size(insects.options(None), size_px) == expected
    assert extraction.batch_size(insects.options(64), size_px) == 64


def test_the_input_size_has_a_default_and_a_minimum():
    unset = insects.options(1, input_size_px=None)
    assert extraction.input_size_px(inception_v3.BACKBONE, unset) == 299
    assert extraction.input_size_px(efficientnet_lite0.BACKBONE, unset) == 224
    small = insects.options(1, input_size_px=74)
    assert extraction.input_size_px(efficientnet_lite0.BACKBONE, small) == 74
    with pytest.raises(UserError, match=r"`extract\.input_size_px` must be at least 75 for inception_v3.*Received: 74"):
        extraction.input_size_px(inception_v3.BACKBONE, small)


GOOD = dataclasses.asdict(insects.options(64, input_size_px=96))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size_px": 31}, r"`extract\.input_size_px`.*32.*Received: 31"),
        ({"input_size_px": 1025}, r"`extract\.input_size_px`.*1024.*Received: 1025"),
        ({"input_size_px": 96.5}, r"`extract\.input_size_px`"),
        ({"central_crop": 0}, r"`extract\.central_crop`.*greater than 0.*Received: 0"),
        ({"central_crop": 1.1}, r"`extract\.central_crop`.*Received: 1.1"),
        ({"resize": "area"}, r"`extract\.resize`.*bilinear_tf1.*Received: 'area'"),
        ({"flip": "yes"}, r"`extract\.flip`"),
        ({"batch_size": 0}, r"`extract\.batch_size`.*Received: 0"),
        ({"batch_size": 4097}, r"`extract\.batch_size`.*4096.*Received: 4097"),
        ({"weights": {"vgg": "x"}}, r"`extract\.weights`: keys must be .*efficientnet_lite0, .*inception_v3.*vgg"),
        ({"runtime": "torch"}, r"`extract\.runtime`.*'tensorflow'.*Received: 'torch'"),
        ({"precision": "int8"}, r"`extract`.*`precision` must be float32 or float16 with `runtime` tensorflow"),
        ({"calibration_images": 0}, r"`extract\.calibration_images`.*Received: 0"),
        ({"seed": -1}, r"`extract\.seed`.*Received: -1"),
        ({"precision": "float8"}, r"`extract\.precision`.*'float32'.*Received: 'float8'"),
        ({"engine": "spark"}, r"`extract\.engine`.*'local'.*Received: 'spark'"),
        ({"weights": {"inception_v3": 3}}, r"`extract\.weights\.inception_v3`"),
        ({"color": 1}, r"`extract\.color` is unknown"),
    ],
)
def test_parameters_are_validated(change, message):
    with pytest.raises(params.ParamsError, match=message):
        params.parse("extract", GOOD | change, Params)


def test_good_parameters_pass():
    parsed = params.parse("extract", GOOD | {"input_size_px": None, "weights": {"inception_v3": "w.h5"}}, Params)
    assert parsed == insects.options(64, input_size_px=None, weights={"inception_v3": "w.h5"})
