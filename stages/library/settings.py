"""The one reader of params.yaml: each section becomes the frozen dataclass `Params` of the module that uses it.

Every stage validates the whole file, so that a typing error in the last section is found before hours of extraction.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.library.common.guarded_files import FileError, shortened
from stages.library.common.guarded_yaml import read_yaml
from stages.library.common.model_names import JOINT, members
from stages.library.common.params import MOST_PROBLEMS, ParamsError, parse
from stages.library.common.plugins import PLUGINS, plugin_names

SECTIONS = {
    "dataset": "stages.library.sources.contract",
    "split": "stages.library.preparation.splits",
    "tfrecord": "stages.library.records.tfrecord",
    "extract": "stages.library.extraction.extraction",
    "class_weights": "stages.library.common.class_weights",
    "cross_validation": "stages.library.heads.folds",
    "combine": "stages.library.combination.combination",
    "finetune": "stages.library.training.finetuning",
    "scratch": "stages.library.training.scratch",
    "fewshot": "stages.library.fewshot",
    "evaluate": "stages.library.evaluation.evaluation",
    "unlike": "stages.library.features.unlike",
    "audit": "stages.library.auditing",
    "map": "stages.library.mapping.layout",
}

LISTS = ("backbones", "heads")  # keys that name plug-ins
JOINED = "joined"  # key that names several of `backbones` in one


def load_params(path: Path) -> "Params":
    """Reads a params.yaml; ParamsError: it can't be read, or keys are unknown, missing or break their rules."""
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
        known = {*modules, *LISTS, JOINED}
        listed = ", ".join(sorted(known))
        unknown = sorted(shortened(str(key))[1:-1] for key in set(content) - known)
        wrong = [f"`{key}` is unknown; the sections are {listed}" for key in unknown]
        wrong += [f"`{key}` is missing" for key in sorted(known - set(content))]
        self._sections: dict[str, Any] = {}
        for name in filter(content.__contains__, LISTS):
            wrong += _wrong_names(name, content[name], plugin_names(PLUGINS[name]))
            self._sections[name] = content[name]
        if JOINED in content:
            wrong += _wrong_joints(content[JOINED], content.get("backbones"))
            self._sections[JOINED] = content[JOINED]
        for name in filter(content.__contains__, modules):
            try:
                self._sections[name] = parse(name, content[name], importlib.import_module(modules[name]).Params)
            except ParamsError as error:
                wrong.append(str(error))
        if wrong:
            more = f"; {len(wrong) - MOST_PROBLEMS} more" if len(wrong) > MOST_PROBLEMS else ""
            raise ParamsError(f"{source}: {'; '.join(wrong[:MOST_PROBLEMS])}{more}")

    def __getitem__(self, section: str) -> Any:
        return self._sections[section]


def _wrong_names(key: str, names: object, known: tuple[str, ...]) -> list[str]:
    among = ", ".join(known)
    if not isinstance(names, list) or not names:
        return [f"`{key}` must be a list of at least one of {among}. Received: {shortened(names)}"]
    wrong = [f"`{key}` must be among {among}. Received: {shortened(name)}" for name in names if name not in known]
    if len({str(name) for name in names}) < len(names):
        wrong.append(f"`{key}` must not name anything twice. Received: {shortened(names)}")
    return wrong


def _wrong_joints(names: object, backbones: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return [f"`{JOINED}` must be a list of names such as a{JOINT}b, or empty. Received: {shortened(names)}"]
    wrong, found = [], set()
    for name in names:
        parts, received = frozenset(members(name)), f"Received: {shortened(name)}"
        if len(parts) < max(2, len(members(name))):
            wrong.append(f"`{JOINED}` must name two or more different backbones, as in a{JOINT}b. {received}")
        if isinstance(backbones, list) and (missing := sorted(parts.difference(map(str, backbones)))):
            wrong.append(f"`{JOINED}` must join what is in `backbones`; {', '.join(missing)} is not. {received}")
        if parts in found:
            wrong.append(f"`{JOINED}` must not join the same backbones twice, in any order. {received}")
        found.add(parts)
    return wrong
