"""Which split an image belongs to: decided by its content, or by its place in the published files, never by a path."""

from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from stages.library.common.console import UserError
from stages.library.common.hashing import Fraction, uniform
from stages.library.common.params import CONFIG

if TYPE_CHECKING:
    from stages.library.sources.contract import Place


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `split` of params.yaml."""

    method: Annotated[Literal["hash", "tail"], pydantic.Field(description="by content, or by place")]
    validation: Annotated[Fraction, pydantic.Field(description="fraction of all images, for choosing")]
    test: Annotated[Fraction, pydantic.Field(description="fraction of all images, where no test split is official")]
    seed: Annotated[int, pydantic.Field(ge=0, description="another seed gives another split")]

    @pydantic.model_validator(mode="after")
    def _leaves_training(self) -> "Params":
        if self.validation + self.test >= 1:
            raise ValueError("`validation` + `test` must be < 1")
        return self


def split_of(key: str, official: str | None, params: Params, place: "Place | None" = None) -> str:
    """Returns "train", "validation" or "test".

    `hash` decides by content, so that identical images share a split. `tail` decides by the order of publication, as
    many published figures were measured: the last part of each file of training images validates. Official test images
    stay test. UserError: `tail` without an official test split or files with an order.
    """
    is_tail = params.method == "tail"
    if is_tail and (official is None or place is None):
        raise UserError(
            "`split.method` must be hash for data sets without an official test split in files that have an order "
            "(cifar10, cifar100 and fashion_mnist have). Received: tail"
        )
    if official in ("test", "validation"):
        return official
    if is_tail and place:
        return "validation" if place.index >= place.count - round(place.count * params.validation) else "train"
    number = uniform(key, "split", params.seed)
    if number < params.validation:
        return "validation"
    return "test" if official is None and number < params.validation + params.test else "train"
