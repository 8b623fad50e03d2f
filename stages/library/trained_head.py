"""A trained head on disk: a folder with the head's own files and head.json, which says what it was trained on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from stages.library import artifacts, heads
from stages.library.bottlenecks import Source
from stages.library.console import UserError


@dataclass(frozen=True)
class TrainedHead:
    """A head and where it comes from.

    Attributes:
      name: of the head's module.
      head: gives logits for features.
      features: what it takes: "bottleneck", "logits" or "probabilities".
      dim: width of the features.
      source: what made them; its classes are the logits' order.
      chosen: hyperparameters that cross-validation decided.
    """

    name: str
    head: heads.Fitted
    features: str
    dim: int
    source: Source
    chosen: dict[str, Any]

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
        return TrainedHead(content["head"], head, content["features"], content["dim"], source, content["chosen"])
    except (OSError, ImportError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable head ({reason}). Run: dvc repro -f train-heads") from error
