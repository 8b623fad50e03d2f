"""The one reader of params.yaml, which knows all sections: each becomes a validated, frozen dataclass.

A section's dataclass is named `Params` and stands in the module that uses it, so that a new key reruns only the
stages that read it. Every stage validates the whole file, so that a typing error in the last section is found
before the first hour of extraction, not after it.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.library.common.guarded_files import FileError, shortened
from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.params import MOST_PROBLEMS, ParamsError, parse
from stages.library.common.plugins import PLUGINS, plugin_names

SECTIONS = {
    "dataset": "stages.library.sources.contract",
    "split": "stages.library.preparation.splits",
    "tfrecord": "stages.library.records.tfrecord",
    "extract": "stages.library.extraction.extraction",
    "cross_validation": "stages.library.heads.folds",
    "finetune": "stages.library.training.finetuning",
    "scratch": "stages.library.training.scratch",
    "fewshot": "stages.library.fewshot",
    "evaluate": "stages.library.evaluation.evaluation",
    "audit": "stages.library.auditing",
}


LISTS = ("backbones", "heads")  # keys that name plug-ins


def load_params(path: Path) -> "Params":
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
        modules = SECTIONS | {head: f"stages.plugins.heads.{head}.head" for head in heads}
        wrong = _wrong_keys(content, set(modules) | set(LISTS))
        self._sections: dict[str, Any] = {}
        for name in LISTS:
            if name in content:
                wrong += _wrong_names(name, content[name], plugin_names(PLUGINS[name]))
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
