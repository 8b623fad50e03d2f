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
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.library.console import UserError

T = TypeVar("T")

CONFIG = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

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
      ParamsError: the file can't be read, or a key is unknown, missing or breaks its rule. Every bad key is named.
    """
    try:
        content = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ParamsError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise ParamsError(f"{path} must be a mapping of sections. Received: {content!r}")
    return Params(content, str(path))


class Params:
    """A validated params.yaml: `params["ridge"]` is the `Params` dataclass of the ridge head."""

    def __init__(self, content: Mapping[str, Any], source: str = "params.yaml"):
        heads = plugin_names(PLUGINS["heads"])
        modules = SECTIONS | {head: f"stages.library.heads.{head}" for head in heads}
        problems = _wrong_keys(content, set(modules) | set(PLUGINS))
        self._sections: dict[str, Any] = {}
        for name, folder in PLUGINS.items():
            if name in content:
                problems += _wrong_names(name, content[name], plugin_names(folder))
                self._sections[name] = content[name]
        for name, module in modules.items():
            if name in content:
                try:
                    self._sections[name] = parse(name, content[name], importlib.import_module(module).Params)
                except ParamsError as error:
                    problems.append(str(error))
        if problems:
            raise ParamsError(f"{source}: " + "; ".join(problems))

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
        found = error.errors()
        # A list with a bad item is also reported as too short, for what is left of it.
        inner = {item["loc"][:-1] for item in found if len(item["loc"]) > 1}
        problems = [_explain(section, item) for item in found if item["loc"] not in inner]
        raise ParamsError("; ".join(problems)) from error


def _explain(section: str, item: Any) -> str:
    key = ".".join([section, *(str(part) for part in item["loc"])])
    if item["type"] == "missing":
        return f"`{key}` is missing"
    if item["type"] == "unexpected_keyword_argument":
        return f"`{key}` {FORMER_KEYS.get(key, 'is unknown')}. Received: {item['input']!r}"
    rule = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"`{key}`: {rule[0].lower() + rule[1:]}. Received: {item['input']!r}"


def _wrong_keys(content: Mapping[str, Any], known: set[str]) -> list[str]:
    unknown = sorted(str(key) for key in set(content) - known)
    missing = sorted(known - set(content))
    return [f"`{key}` is unknown; the sections are {', '.join(sorted(known))}" for key in unknown] + [
        f"`{key}` is missing" for key in missing
    ]


def _wrong_names(key: str, names: object, known: tuple[str, ...]) -> list[str]:
    if not isinstance(names, list) or not names:
        return [f"`{key}` must be a list of at least one of {', '.join(known)}. Received: {names!r}"]
    problems = [f"`{key}` must be among {', '.join(known)}. Received: {name!r}" for name in names if name not in known]
    if len({str(name) for name in names}) < len(names):
        problems.append(f"`{key}` must not name anything twice. Received: {names!r}")
    return problems
