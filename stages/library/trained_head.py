"""A trained head on disk: a folder with the head's own files and head.json, which says what it was trained on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from stages.library import artifacts, heads
from stages.library.bottlenecks import Source
from stages.library.console import UserError


@dataclass(frozen=True)
class TrainedHead:
    """A head and where it comes from.

    Attributes:
      name: of the head's module.
      head: gives logits for features, not yet calibrated.
      features: what it takes: "bottleneck", "logits", "probabilities" or "joined".
      dim: width of the features.
      source: what made them; its classes are the logits' order.
      chosen: hyperparameters that cross-validation decided.
      temperature: by which the head's logits are divided (library/calibration.py).
    """

    name: str
    head: heads.Fitted
    features: str
    dim: int
    source: Source
    chosen: dict[str, Any]
    temperature: float = 1.0

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns calibrated logits, float32 (n, classes), for features (n, dim); softmax gives probabilities."""
        return self.head.logits(features) / np.float32(self.temperature)

    def save(self, folder: Path) -> None:
        """Writes into an existing folder."""
        self.head.save(folder)
        description = {
            "head": self.name,
            "features": self.features,
            "dim": self.dim,
            "num_classes": len(self.source.classes),
            "source": asdict(self.source),
            "chosen": self.chosen,
            "temperature": self.temperature,
        }
        artifacts.write_json(folder / "head.json", description)


def load(folder: Path) -> TrainedHead:
    """Reads what the train-heads stage wrote.

    Raises:
      UserError: a file is missing or damaged.
    """
    try:
        content = artifacts.read_json(folder / "head.json")
        source = Source(**content["source"] | {"classes": tuple(content["source"]["classes"])})
        head = heads.lookup(content["head"]).load(folder)
        return TrainedHead(
            name=content["head"],
            head=head,
            features=content["features"],
            dim=content["dim"],
            source=source,
            chosen=content["chosen"],
            temperature=content["temperature"],
        )
    except (OSError, ImportError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable head ({reason}). Run: dvc repro -f train-heads") from error
