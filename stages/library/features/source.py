"""What made features: it stands in their files and travels with every head on them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic

from stages.library.common.guarded_files import CONFIG, PLUGIN_NAME
from stages.library.common.model_names import JOINT
from stages.library.records.dataset_file import each_once
from stages.library.records.preprocessing import Preprocessing


@dataclass(frozen=True)
class Source:
    """A backbone that made features.

    An image became the backbone's input as `preprocessing` says; with `flip` the features are means over it and its
    mirror image. `weights_sha256` is of the backbone's weight file, `fingerprint` over all that the features
    depend on beside the images, both hex. `classes` are names, in the order of the labels.
    """

    __pydantic_config__: ClassVar = CONFIG

    backbone: Annotated[str, pydantic.Field(pattern=PLUGIN_NAME)]
    preprocessing: Preprocessing
    flip: bool
    weights_sha256: str
    fingerprint: str
    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=1), pydantic.AfterValidator(each_once)]
    feature_blocks: Annotated[int, pydantic.Field(ge=1)] = 1  # see `extract.feature_blocks`

    @property
    def members(self) -> tuple["Source", ...]:
        """The backbones that made the features: this one alone."""
        return (self,)

    @property
    def scales(self) -> tuple[float, ...]:
        """What the features of each member are multiplied by."""
        return (1.0,)


@dataclass(frozen=True)
class Joined:
    """Several backbones whose features stand side by side, in this order; each one's are multiplied by its scale."""

    __pydantic_config__: ClassVar = CONFIG

    members: Annotated[tuple[Source, ...], pydantic.Field(min_length=2)]
    scales: tuple[Annotated[float, pydantic.Field(gt=0)], ...]

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.members):
            raise ValueError("`scales` must be as many as `members`")
        if any(member.classes != self.classes for member in self.members):
            raise ValueError("`classes` must be the same in all `members`")

    @property
    def backbone(self) -> str:
        """The name, such as "efficientnet_lite0+inception_v3"."""
        return JOINT.join(member.backbone for member in self.members)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels."""
        return self.members[0].classes
