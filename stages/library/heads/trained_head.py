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
from stages.library.features import joined
from stages.library.features.cache import Features
from stages.library.features.source import Joined, Source
from stages.library.heads import contract as heads

REMEDY = "Run: dvc repro -f train-heads"


@pydantic.with_config(CONFIG)
class Description(TypedDict):
    """Content of head.json; the keys are those of `TrainedHead`."""

    head: str
    features: heads.Features
    dim: Annotated[int, pydantic.Field(ge=1)]
    num_classes: Annotated[int, pydantic.Field(ge=1)]
    source: Annotated[
        Annotated[Source, pydantic.Tag("one")] | Annotated[Joined, pydantic.Tag("joined")],
        pydantic.Discriminator(lambda given: "joined" if isinstance(given, dict) and "members" in given else "one"),
    ]
    best_params: dict[str, Any]
    temperature: Annotated[float, pydantic.Field(gt=0)]


@dataclass(frozen=True)
class TrainedHead:
    """A head and where it comes from."""

    name: str  # of the head's module
    head: heads.Fitted  # gives logits, not yet calibrated
    features: str  # what it takes, one of `Features`
    dim: int  # their width
    source: Source | Joined  # what made them; its classes are the logits' order
    best_params: dict[str, Any]  # hyperparameters that cross-validation decided
    temperature: float = 1.0  # by which the head's logits are divided (library/calibration.py)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns calibrated logits, float32 (n, classes), for features (n, dim); softmax gives probabilities.

        Raises UserError where the features have another width.
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
    """Reads what the train-heads stage wrote; UserError where a file is missing, damaged or of another head."""
    kind = Annotated[Description, pydantic.AfterValidator(_checked)]
    content: dict[str, Any] = guarded_files.read_json(folder / "head.json", kind, REMEDY)
    name, num_classes = content.pop("head"), content.pop("num_classes")
    try:
        return TrainedHead(name, heads.lookup(name).load(folder, content["dim"], num_classes), **content)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable head ({reason}). {REMEDY}") from error


def predict(folder: Path, bottlenecks: Path, split: str) -> tuple[TrainedHead, Features, np.ndarray]:
    """Loads a head and the features of a split; returns both, and its logits as `TrainedHead.logits` gives them.

    UserError where the features are not those that it was trained on.
    """
    head = load(folder)
    features = joined.load(bottlenecks, [split], head.features, head.source.scales)
    if features.source != head.source:
        raise UserError(f"{folder} was trained on other features than {bottlenecks} holds. Run: dvc repro")
    return head, features, head.logits(features.values)


def _checked(content: Description) -> Description:
    known = plugins.plugin_names(plugins.PLUGINS["heads"])
    if content["head"] not in known:
        raise ValueError(f"`head` must be one of {', '.join(known)}")
    if content["num_classes"] != len(content["source"].classes):
        raise ValueError("`num_classes` must be the number of `source.classes`")
    return content
