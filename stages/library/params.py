"""The one reader of params.yaml: each section becomes a validated, frozen dataclass.

A section's dataclass is named `Params` and stands in the module that uses it, so that a new key reruns only the stages
that read it. Every stage validates the whole file, so that a typing error in the last section is found before the
first hour of extraction, not after it.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from stages.library.console import UserError
from stages.library.guarded_files import CONFIG as CONFIG
from stages.library.guarded_files import FileError, problems, shortened
from stages.library.guarded_yaml import read_yaml

T = TypeVar("T")

MOST_PROBLEMS = 20  # named in one line
LIBRARY = Path(__file__).parent
SECTIONS = {
    "dataset": "stages.library.datasets",
    "split": "stages.library.splits",
    "tfrecord": "stages.library.records",
    "extract": "stages.library.extraction",
    "cross_validation": "stages.library.folds",
    "finetune": "stages.library.finetuning",
    "scratch": "stages.library.scratch",
    "fewshot": "stages.library.fewshot",
    "evaluate": "stages.library.evaluation",
    "audit": "stages.library.auditing",
}
# Keys that were there in an earlier release -> what to do about it.
FORMER_KEYS = {
    "evaluate.calibration_bins": "is no longer there: the calibration error has 15 bins everywhere. Delete it",
    "extract.xla": "is no longer there: XLA is not used. Delete it",
    "fewshot.draws": "is now `fewshot.repeats`",
    "fewshot.train_per_class": "is now `fewshot.shots`",
    "xgboost.workers": "is no longer there: XGBoost runs in one process. Delete it",
}
PLUGINS = {"backbones": LIBRARY / "backbones", "heads": LIBRARY / "heads"}


class ParamsError(UserError):
    """A key of params.yaml breaks its rule; the message names the key, the rule and the value."""


def plugin_names(folder: Path) -> tuple[str, ...]:
    """Returns the sorted names of the plug-in modules of a folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")))


def load(path: Path) -> "Params":
    """Reads and validates a params.yaml.

    Raises:
      ParamsError: the file can't be read, or a key is unknown, missing or breaks its rule. Up to twenty are named.
    """
    try:
        content = read_yaml(Path(path))
    except FileError as error:
        raise ParamsError(str(error)) from error
    if not isinstance(content, Mapping):
        raise ParamsError(f"{path} must be a mapping of sections. Received: {shortened(content)}")
    return Params(content, str(path))


class Params:
    """A validated params.yaml: `params["ridge"]` is the `Params` dataclass of the ridge head."""

    def __init__(self, content: Mapping[str, Any], source: str = "params.yaml"):
        heads = plugin_names(PLUGINS["heads"])
        modules = SECTIONS | {head: f"stages.library.heads.{head}" for head in heads}
        wrong = _wrong_keys(content, set(modules) | set(PLUGINS))
        self._sections: dict[str, Any] = {}
        for name, folder in PLUGINS.items():
            if name in content:
                wrong += _wrong_names(name, content[name], plugin_names(folder))
                self._sections[name] = content[name]
        for name, module in modules.items():
            if name in content:
                try:
                    self._sections[name] = parse(name, content[name], importlib.import_module(module).Params)
                except ParamsError as error:
                    wrong.append(str(error))
        if wrong:
            more = f"; {len(wrong) - MOST_PROBLEMS} more" if len(wrong) > MOST_PROBLEMS else ""
            raise ParamsError(f"{source}: {'; '.join(wrong[:MOST_PROBLEMS])}{more}")

    def __getitem__(self, section: str) -> Any:
        return self._sections[section]


def parse(section: str, content: object, kind: type[T]) -> T:
    """Validates one section against its dataclass.

    Raises:
      ParamsError: "`section.key`: rule. Received: value", one clause per offending key.
    """
    try:
        # JSON, for pydantic's strict mode takes a list for a tuple there, and nothing is converted silently.
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(content, default=str), strict=True)
    except pydantic.ValidationError as error:
        raise ParamsError("; ".join(problems(error, section, FORMER_KEYS))) from error


def _wrong_keys(content: Mapping[str, Any], known: set[str]) -> list[str]:
    unknown = sorted(str(key) for key in set(content) - known)
    missing = sorted(known - set(content))
    return [f"`{shortened(key)[1:-1]}` is unknown; the sections are {', '.join(sorted(known))}" for key in unknown] + [
        f"`{key}` is missing" for key in missing
    ]


def _wrong_names(key: str, names: object, known: tuple[str, ...]) -> list[str]:
    if not isinstance(names, list) or not names:
        return [f"`{key}` must be a list of at least one of {', '.join(known)}. Received: {shortened(names)}"]
    wrong = [
        f"`{key}` must be among {', '.join(known)}. Received: {shortened(name)}" for name in names if name not in known
    ]
    if len({str(name) for name in names}) < len(names):
        wrong.append(f"`{key}` must not name anything twice. Received: {shortened(names)}")
    return wrong
