"""How a section of params.yaml becomes a validated, frozen dataclass. ../settings.py knows all sections."""

import json
from typing import Annotated, Literal, TypeVar

import pydantic

from stages.library.common.console import UserError
from stages.library.common.guarded_files import CONFIG as CONFIG
from stages.library.common.guarded_files import problems

T = TypeVar("T")

# What sections share, as wide as the libraries take it: seeds are those of NumPy's first generator, Keras and XGBoost;
# rates and decays are float32, with room for what they are multiplied by.
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]
Rate = Annotated[float, pydantic.Field(gt=0, le=1e6)]
Decay = Annotated[float, pydantic.Field(ge=0, le=1e6)]
Width = Annotated[int, pydantic.Field(ge=1, le=65_536)]  # of a layer
MOST_LAYERS = 100
# How an image becomes a square, and by which interpolation: records/preprocessing.py.
Geometry = Literal["crop", "squash", "pad"]
ResizeMethod = Literal["bilinear", "bicubic", "bilinear_tf1"]


def _checked_flip(value: object) -> object:
    if value != "alternating" and not isinstance(value, bool):  # of a union pydantic would tell what both expect
        raise ValueError("must be true, false or alternating")
    return value


# Whether training mirrors images: half of them at random, or each one in every other pass.
Flip = Annotated[bool | Literal["alternating"], pydantic.BeforeValidator(_checked_flip)]

MOST_PROBLEMS = 20  # named in one line
# Keys that were there in an earlier release -> what to do about it.
FORMER_KEYS = {
    "audit.max_pictures": "is now `audit.max_images`",
    "audit.near_duplicate": "is no longer there: copies are found by their pixels. Delete it",
    "audit.pictures": "is now `audit.images`",
    "cross_validation.held_out": "is now `cross_validation.holdout_fraction`",
    "evaluate.bootstrap_samples": "is no longer there: intervals are by Wilson's formula. Delete it",
    "evaluate.calibration_bins": "is no longer there: the calibration error has 15 bins everywhere. Delete it",
    "evaluate.pictures": "is now `evaluate.images`",
    "extract.xla": "is no longer there: XLA is not used. Delete it",
    "fewshot.draws": "is now `fewshot.repeats`",
    "fewshot.train_per_class": "is now `fewshot.shots`",
    "finetune.fresh_blocks": "is now `finetune.reinitialized_blocks`",
    "finetune.trained_blocks": "is now `finetune.unfrozen_blocks`",
    "xgboost.workers": "is no longer there: XGBoost runs in one process. Delete it",
}


class ParamsError(UserError):
    """A key of params.yaml breaks its rule; the message names the key, the rule and the value."""


def parse(section: str, content: object, kind: type[T]) -> T:
    """Validates one section; ParamsError: "`section.key`: rule. Received: value", one clause per offending key."""
    try:
        # JSON, for pydantic's strict mode takes a list for a tuple there, and nothing is converted silently.
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(content, default=str), strict=True)
    except pydantic.ValidationError as error:
        raise ParamsError("; ".join(problems(error, section, FORMER_KEYS))) from error
