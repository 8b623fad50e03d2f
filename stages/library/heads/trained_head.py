"""A trained head on disk: a folder with the head's own files and head.json, which says what it was trained on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from safetensors import SafetensorError
from typing_extensions import TypedDict

from stages.library.common import artifacts, guarded_files, plugins
from stages.library.common.console import UserError
from stages.library.common.guarded_files import CONFIG
from stages.library.features.cache import Source
from stages.library.heads import contract as heads
from stages.library.heads.contract import Features

REMEDY = "Run: dvc repro -f train-heads"


@pydantic.with_config(CONFIG)
class Description(TypedDict):
    """Content of head.json; the keys are those of `TrainedHead`."""

    head: str
    features: Features
    dim: Annotated[int, pydantic.Field(ge=1)]
    num_classes: Annotated[int, pydantic.Field(ge=1)]
    source: Source
    best_params: dict[str, Any]
    temperature: Annotated[float, pydantic.Field(gt=0)]


@dataclass(frozen=True)
class TrainedHead:
    """A head and where it comes from.

    Attributes:
      name: of the head's module.
      head: gives logits for features, not yet calibrated.
      features: what it takes: "bottleneck", "logits", "probabilities" or "joined".
      dim: width of the features.
      source: what made them; its classes are the logits' order.
      best_params: hyperparameters that cross-validation decided.
      temperature: by which the head's logits are divided (library/calibration.py).
    """

    name: str
    head: heads.Fitted
    features: str
    dim: int
    source: Source
    best_params: dict[str, Any]
    temperature: float = 1.0

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns calibrated logits, float32 (n, classes), for features (n, dim); softmax gives probabilities.

        Raises:
          UserError: the features have another width.
        """
        if features.shape[1] != self.dim:
            raise UserError(
                f"the head takes {self.dim} features an image, and its backbone gives {features.shape[1]}. {REMEDY}"
            )
        return heads.logits_of_rows(self.head, features, np.arange(len(features))) / np.float32(self.temperature)

    def save(self, folder: Path) -> None:
        """Writes into an existing folder."""
        self.head.save(folder)
        description = {"head": self.name, "num_classes": len(self.source.classes), "source": asdict(self.source)}
        description |= {key: getattr(self, key) for key in ("features", "dim", "best_params", "temperature")}
        artifacts.write_json(folder / "head.json", description)


def load(folder: Path) -> TrainedHead:
    """Reads what the train-heads stage wrote.

    Raises:
      UserError: a file is missing or damaged, or they do not belong together.
    """
    try:
        content: dict[str, Any] = dict(describe(folder))
        name, num_classes = content.pop("head"), content.pop("num_classes")
        return TrainedHead(name, heads.lookup(name).load(folder, content["dim"], num_classes), **content)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable head ({reason}). {REMEDY}") from error


def describe(folder: Path) -> Description:
    """Reads the head.json of a head.

    Raises:
      UserError: it is missing or damaged.
    """
    kind = Annotated[Description, pydantic.AfterValidator(_checked)]
    found: Description = guarded_files.read_json(folder / "head.json", kind, REMEDY)
    return found


def _checked(content: Description) -> Description:
    known = plugins.plugin_names(plugins.PLUGINS["heads"])
    if content["head"] not in known:
        raise ValueError(f"`head` must be one of {', '.join(known)}")
    if content["num_classes"] != len(content["source"].classes):
        raise ValueError("`num_classes` must be the number of `source.classes`")
    return content
