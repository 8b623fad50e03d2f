"""The models in memory: loaded at first use, the one unused longest given up for the next."""

import threading
from dataclasses import replace
from pathlib import Path

from app import heat_map
from app.explanation import Deadline, Explained
from app.models import Project, networks_of
from app.neighbours import Neighbours
from stages.library.common import console
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.common.model_names import members
from stages.library.common.named_files import is_there
from stages.library.networks import contract as backbones
from stages.library.networks import weights


class ModelCache:
    """Loads models one at a time, for building a Keras network is not safe in threads; using one is.

    At most `capacity` are in memory, and those that were given up until their answers are there.
    """

    def __init__(self, project: Project, capacity: int):
        self._project = project
        self._capacity = capacity
        self._lock = threading.Lock()
        self._models: dict[str, Explained] = {}  # the one used last stands last
        self._neighbours: dict[str, Neighbours | None] = {}

    def get(self, name: str, deadline: Deadline) -> Explained:
        """Returns a model, waiting for one that is being loaded; raises TooSlowError, or UserError that names paths."""
        with deadline.hold(self._lock):
            found = self._models.pop(name, None)
            if not found:
                deadline.check()
                while len(self._models) >= self._capacity:
                    del self._models[next(iter(self._models))]
                model = self._project.load(name)
                found = Explained(model.compiled(), heat_map.explainer(model), self._compares(model.heads[0].name))
            self._models[name] = found
            return found

    def _compares(self, name: str) -> Neighbours | None:
        """Returns what compares by the model's own backbone, or by the first one for a network without any."""
        first, _, last = name.partition("/")
        backbone = {"imagenet": last, "scratch": self._project.settings["backbones"][0]}.get(first, first)
        features = self._project.root / "artifacts" / "bottlenecks" / backbone
        cached = all(features.with_name(name).is_dir() for name in members(backbone))
        if not cached or not weights_are_here(self._project, backbone):
            return None
        if backbone not in self._neighbours:
            found = Neighbours.open(features, self._project.root / "data" / "tfrecord")
            parts = networks_of(found.features.source, self._project.settings["extract"].weights)
            own = tuple(part.compiled() for part in parts or ())
            self._neighbours[backbone] = replace(found, parts=own) if own else None
        return self._neighbours[backbone]


def knows_imagenet(project: Project, backbone: str) -> bool:
    """Tells whether a backbone's weight file is on this machine and has a top, which tells ImageNet's classes apart."""
    try:
        chosen = project.settings["extract"].weights
        return weights_are_here(project, backbone) and bool(weights.describe(backbone, chosen).num_logits)
    except UserError as error:
        console.say(f"note: imagenet/{backbone} is not offered: {error}", err=True)
        return False


def weights_are_here(project: Project, backbone: str) -> bool:
    """Tells whether the weight files of a backbone's members are on this machine: the page downloads nothing."""
    return all(_is_here(project, name) for name in members(backbone))


def _is_here(project: Project, backbone: str) -> bool:
    choice = project.settings["extract"].weights.get(backbone)
    published = backbones.lookup(backbone).BACKBONE.weights
    if choice is not None and choice not in published:
        return is_there(Path(choice))
    file = published[choice] if choice else next(iter(published.values()))
    return file.package is not None or (cache_folder() / "downloads" / file.filename).is_file()
