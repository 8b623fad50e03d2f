"""Which split a picture belongs to: decided by its content, never by its order or path."""

import hashlib
from typing import Annotated

import pydantic

from stages.library.params import CONFIG

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `split` of params.yaml."""

    validation: Annotated[Fraction, pydantic.Field(description="fraction of all pictures, for choosing")]
    test: Annotated[Fraction, pydantic.Field(description="fraction of all pictures, where no test split is official")]
    seed: Annotated[int, pydantic.Field(ge=0, description="another seed gives another split")]

    @pydantic.model_validator(mode="after")
    def _leaves_training(self) -> "Params":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` + `test` must be < 1")
        return self


def uniform(key: str, purpose: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on the key, the purpose and the seed alone; uniform over keys."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{key}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def split_of(key: str, official: str | None, params: Params) -> str:
    """Returns "train", "validation" or "test".

    Args:
      key: hex sha256 of the picture's source bytes, so that identical pictures share a split.
      official: "test" stays test; "train" is divided into training and validation; None is divided into all three.
      params: the fractions. `validation` is a fraction of what is not official test data.
    """
    if official == "test":
        return "test"
    number = uniform(key, "split", params.seed)
    if number < params.validation:
        return "validation"
    if official is None and number < params.validation + params.test:
        return "test"
    return "train"
