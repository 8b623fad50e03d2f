"""A combination on disk: a folder with combined.json, which names the members, and what stacking learned."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
from safetensors import SafetensorError
from typing_extensions import TypedDict

from stages.library.combination.averaging import Average
from stages.library.combination.combination import Found, Method, Rule
from stages.library.combination.stacking import Stacked
from stages.library.common import artifacts, guarded_files
from stages.library.common.console import UserError
from stages.library.common.guarded_files import CONFIG
from stages.library.common.model_names import FINETUNED
from stages.library.heads.dense import DenseNetwork
from stages.library.records.dataset_file import each_once

FILE = "combined.json"
REMEDY = "Run: dvc repro"
Weight = Annotated[float, pydantic.Field(ge=0, le=1)]


@pydantic.with_config(CONFIG)
class Member(TypedDict):
    """A head or a fine-tuned network that takes part."""

    name: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9_+:]+/[a-z0-9_]+$")]  # BACKBONE/HEAD or BACKBONE/finetuned
    sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]  # of its folder, see `sha256_of`
    weight: Weight | None  # in the average; null where they are stacked


@pydantic.with_config(CONFIG)
class Description(TypedDict):
    """Content of combined.json."""

    method: Method
    alone: bool  # whether it is the best member alone, for the method was worse
    members: Annotated[list[Member], pydantic.Field(min_length=1)]
    classes: Annotated[tuple[str, ...], pydantic.Field(min_length=1), pydantic.AfterValidator(each_once)]
    temperature: Annotated[float, pydantic.Field(gt=0)]


@dataclass(frozen=True)
class Combined:
    """Members, and what makes one model of them."""

    method: Method
    alone: bool
    members: tuple[Member, ...]
    classes: tuple[str, ...]  # in the order of the logits
    rule: Rule
    temperature: float  # by which the rule's logits are divided

    @classmethod
    def of(cls, method: Method, found: Found, folders: Mapping[str, Path], classes: tuple[str, ...]) -> "Combined":
        """Makes it of what was found for models in folders by name; an average leaves out who has no weight."""
        weights = found.rule.weights if isinstance(found.rule, Average) else [None] * len(folders)
        kept: list[Member] = [
            {"name": name, "sha256": sha256_of(name, folder), "weight": None if weight is None else float(weight)}
            for (name, folder), weight in zip(folders.items(), weights, strict=True)
            if weight != 0
        ]
        rule = Average(found.rule.weights[found.rule.weights > 0]) if isinstance(found.rule, Average) else found.rule
        return cls(method, found.alone, tuple(kept), classes, rule, found.validated.temperature)

    def __str__(self) -> str:
        shown = (f"{each['name']}" + (f" {each['weight']:.2f}" if each["weight"] else "") for each in self.members)
        return ", ".join(shown)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns calibrated logits, float32 (n, classes), for the members' probabilities (members, n, classes)."""
        return self.rule.logits(probabilities) / np.float32(self.temperature)

    def stale(self, folder_of: Callable[[str], Path]) -> Path | None:
        """Returns the first member's folder that holds another model than the weights were found for, or none."""
        for member in self.members:
            name, folder = member["name"], folder_of(member["name"])
            if not folder.is_dir() or sha256_of(name, folder) != member["sha256"]:
                return folder
        return None

    def save(self, folder: Path) -> None:
        """Writes into an existing folder."""
        if isinstance(self.rule, Stacked):
            self.rule.network.save(folder)
        keys = "method", "alone", "members", "classes", "temperature"
        artifacts.write_json(folder / FILE, {key: getattr(self, key) for key in keys})


def load(folder: Path) -> Combined:
    """Reads what the stage wrote; UserError where a file is missing or damaged."""
    found: Description = guarded_files.read_json(folder / FILE, Description, REMEDY)
    members, classes = tuple(found["members"]), found["classes"]
    weights = [member["weight"] for member in members if member["weight"] is not None]
    try:
        rule: Rule
        if not weights:
            rule = Stacked(DenseNetwork.load(folder, len(members) * len(classes), len(classes)))
        elif len(weights) == len(members):
            rule = Average(np.array(weights, np.float32))
        else:
            raise ValueError("`weight` must be given for all members or for none")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder} holds no readable combination ({reason}). {REMEDY}") from error
    return Combined(found["method"], found["alone"], members, classes, rule, found["temperature"])


def is_network(name: str) -> bool:
    """Tells a fine-tuned network from a head, by a member's name."""
    return name.endswith(f"/{FINETUNED}")


def sha256_of(name: str, folder: Path) -> str:
    """Returns a hash of a member's files, by which it is known again; a network's config.json has that of its weights.

    "" where a network has no such file.
    """
    if is_network(name):
        config = folder / "config.json"
        return artifacts.sha256_file(config) if config.is_file() else ""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    return hashlib.sha256(
        "".join(f"{path.name} {artifacts.sha256_file(path)}\n" for path in files).encode()
    ).hexdigest()
