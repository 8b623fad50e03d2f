"""Weights of losses: that of an image, from the data set's table, times that of its class, `class_weights`."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from stages.library.common.console import UserError
from stages.library.common.guarded_files import shortened

LIMITS = 1e-30, 1e30  # of a product, for training is in float32
Weight = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Word = Literal["none", "balanced"]
OfClasses = dict[str, Weight]


def _parsed(value: object, parse_word: pydantic.ValidatorFunctionWrapHandler) -> Any:
    """Validates as one kind or the other: of a union pydantic would tell what both expect."""
    if isinstance(value, dict):
        return pydantic.TypeAdapter(OfClasses).validate_python(value, strict=True)
    return parse_word(value)


# What `class_weights` of params.yaml may be; a class that the mapping does not name has the weight 1.
Params = Annotated[
    Word,
    pydantic.WrapValidator(_parsed),
    pydantic.WithJsonSchema(
        pydantic.TypeAdapter(Word | OfClasses).json_schema()
        | {"description": "of each image's loss in training, by its class; balanced: all classes count the same"}
    ),
]


def check(setting: str | dict[str, float], classes: Sequence[str]) -> None:
    """Raises UserError where the setting names what is no class of the data set."""
    if isinstance(setting, dict) and (unknown := sorted(set(setting) - set(classes))):
        raise UserError(
            f"`class_weights` must name classes of the data set, {shortened(list(classes))}. Received: "
            f"{shortened(unknown)}. Write the name of a class in quotes where it is a number"
        )


def of_images(
    setting: str | dict[str, float], labels: np.ndarray, weights: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Returns the weight of each image's loss, float64 (n,): what `weights`, float64 (n,), says, times its class's.

    "balanced" is scikit-learn's n / (k * count), for the k classes that have an image among the labels, int64 (n,),
    where images count as they weigh: each class has the same sum. A class that is not among `classes` may be named.
    UserError where a product is beyond LIMITS.
    """
    if isinstance(setting, dict):
        of_class = np.array([setting.get(name, 1.0) for name in classes])
    elif setting == "balanced":
        counts = np.bincount(labels, weights, minlength=len(classes))
        of_class = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    else:
        of_class = np.ones(len(classes))
    with np.errstate(over="ignore"):
        product = np.asarray(weights * of_class[labels])
    if len(wrong := product[(product < LIMITS[0]) | (product > LIMITS[1])]):
        raise UserError(
            f"`class_weights`, times the weights of the data set's table, must give weights in [{LIMITS[0]:g}, "
            f"{LIMITS[1]:g}]. Received: {wrong[0]:g}"
        )
    return product
