"""The models that can be used: those of the leaderboard, and each backbone with ImageNet's own classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from app.imagenet import imagenet_classes
from app.parts import Part
from stages.library.combination import combined
from stages.library.common import artifacts, plugins, tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.common.model_names import COMBINED, FINETUNED, SCRATCH
from stages.library.extraction import extraction
from stages.library.features import cache as features
from stages.library.features import joined, unlike
from stages.library.features.source import Joined, Source
from stages.library.features.unlike import Reference
from stages.library.heads import trained_head
from stages.library.heads.trained_head import TrainedHead
from stages.library.networks import contract as backbones
from stages.library.records import preprocessing
from stages.library.report import leaderboard
from stages.library.scoring import result_files
from stages.library.scoring.operating import Operating
from stages.library.scoring.probabilities import softmax
from stages.library.scoring.selection import SelectionMetric
from stages.library.settings import Params, load_params

if TYPE_CHECKING:
    import tensorflow as tf

    from app.parts import Outputs

NEXT = "Run: dvc repro"
BATCH = 16  # images in memory at once
PIXELS_AT_ONCE = BATCH * 128**2


@dataclass(frozen=True)
class Model:
    """A model ready to use: networks, each with an input of its own, and what makes probabilities of their outputs.

    The networks stand in `parts`, each once. A subclass may make the probabilities in another way, by a `read` of its
    own; nothing else here depends on it. Its counterpart for exports is in exporting/graph.py.
    """

    name: str  # "BACKBONE/HEAD", "BACKBONE/finetuned", "scratch", "combined/..." or "imagenet/BACKBONE"
    classes: tuple[str, ...]  # in the order of the probabilities
    parts: tuple[Part, ...]
    trained: TrainedHead | None = None  # the head on the parts' features; without one the only part gives the logits
    reference: Reference | None = None  # what tells images unlike the training images, where there is such a thing
    operating: Operating | None = None  # where it is sure enough to answer, where that is known

    @property
    def heads(self) -> tuple["Model", ...]:
        """Models of at most one head each that it is made of: itself, where it is no combination."""
        return (self,)

    def read(self, outputs: "Sequence[Outputs]") -> np.ndarray:
        """Returns float32 (n, classes) for what each part gives for n images.

        Features are rounded to float16 in between, as in the cache that a head was trained and evaluated on.
        """
        if not self.trained:
            (only,) = outputs
            return softmax(np.asarray(only["logits"]))
        kind = self.trained.features
        columns = ([np.asarray(output[name]) for name in features.COLUMNS[kind]] for output in outputs)
        blocks = [features.quantize(np.hstack(values)) for values in columns]
        if kind == "probabilities":
            blocks = [softmax(block) for block in blocks]
        return softmax(self.trained.logits(joined.side_by_side(blocks, self.trained.source.scales)))

    def probabilities(self, inputs: "Sequence[tf.Tensor | np.ndarray]") -> np.ndarray:
        """Returns float32 (n, classes) for each part's input, float32 pixels (n, side, side, 3) of [0, 255]."""
        return self.read([part.outputs(images) for part, images in zip(self.parts, inputs, strict=True)])

    @property
    def threshold(self) -> float:
        """The share of known images farther out below which an image is called unlike the training images."""
        return self.reference.threshold if self.reference else 0.0

    def farther_out(self, outputs: "Sequence[Outputs]") -> np.ndarray | None:
        """Returns the share of known images that lie farther out, float32 (n,), for what each part gives for n images.

        None for a model that has no training images to compare with.
        """
        if not self.reference:
            return None
        return self.reference.farther_out([np.asarray(output["bottleneck"]) for output in outputs])

    def answer(self, inputs: "Sequence[tf.Tensor | np.ndarray]") -> tuple[np.ndarray, np.ndarray | None]:
        """Returns what `probabilities` and `farther_out` do, in one forward pass of each network."""
        outputs = [part.outputs(images) for part, images in zip(self.parts, inputs, strict=True)]
        return self.read(outputs), self.farther_out(outputs)

    @property
    def images_at_once(self) -> int:
        """How many images go through the networks in one call: uncompiled, a network keeps all that its layers give."""
        return int(np.clip(PIXELS_AT_ONCE // max(part.preprocessing.input_size_px**2 for part in self.parts), 1, BATCH))

    def compared(self, load: Callable[[str], Reference | None]) -> Self:
        """Returns the model with what tells images unlike the training images, by its name or those of its members."""
        return replace(self, reference=load(self.name))

    def inputs(self, image: "tf.Tensor | np.ndarray") -> "list[tf.Tensor]":
        """Returns each part's input, float32 (side, side, 3), for an image, uint8 (height, width, 3)."""
        return [part.fit(image) for part in self.parts]

    def predict(self, encoded: Sequence[bytes]) -> np.ndarray:
        """Returns float32 (n, classes) for JPEG or PNG images, in one forward pass of each network."""
        return self.probabilities(self.batches(encoded))

    def batches(self, encoded: Sequence[bytes]) -> list[np.ndarray]:
        """Returns each part's input for JPEG or PNG images that `normalisation.normalise` gave."""
        inputs = (self.inputs(preprocessing.decode(image)) for image in encoded)
        return [np.stack(images) for images in zip(*inputs, strict=True)]

    def compiled(self) -> Self:
        """Returns the model with its networks as TensorFlow graphs."""
        return replace(self, parts=tuple(part.compiled() for part in self.parts))


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
        heads, whole, joint = (self.settings[key] for key in ("heads", "backbones", "joined"))
        names = leaderboard.listed(heads, whole, joint, self.settings["combine"].models)
        folders = self.root / "metrics", self.root / "artifacts" / "evaluation"
        try:
            found, _ = leaderboard.collect(*folders, artifacts.sha256_file(dataset), names, self.selected_by)
        except leaderboard.NoResultError:
            return []
        return [result for result in found if self.is_there(result.name)]

    def is_there(self, name: str) -> bool:
        """Tells whether a model lies in its folder and, of a combination, whether its members are those of then."""
        folder = self.folder(name)
        if not folder.is_dir() or not name.startswith(f"{COMBINED}/"):
            return folder.is_dir()
        return combined.load(folder).stale(self.folder) is None

    def folder(self, name: str) -> Path:
        """Returns where a model of the leaderboard lies."""
        if "/" not in name or name.startswith(f"{COMBINED}/"):
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
        if name in [*names, *(f"imagenet/{each}" for each in plugins.plugin_names(plugins.PLUGINS["backbones"]))]:
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
            model = trained_on_images(name, self.folder(name))
        elif name.startswith(f"{COMBINED}/"):
            from app import combinations

            model = combinations.load(name, self.folder, extract.weights)
        else:
            model = _head(name, self.folder(name), extract.weights)
        model = model.compared(lambda each: unlike.load(self.root / "artifacts" / "evaluation" / each))
        return replace(model, operating=self._operating(name))

    def _operating(self, name: str) -> Operating | None:
        """Returns where a model was found to be sure enough, or None where it was not evaluated."""
        path = self.root / "metrics" / f"{name}.json"
        content = result_files.read_metrics(path) if path.is_file() else {}
        if "operating" not in content:
            return None
        answers, sets = (content["operating"][key] for key in ("answers", "sets"))
        return Operating(answers.get("least_confidence"), sets["least_probability"])


def _pretrained(name: str, extract: extraction.Params, size_px: int | None) -> Model:
    tensorflow_runtime.start()
    from stages.library.networks import weights

    backbone = name.removeprefix("imagenet/")
    side = size_px or backbones.lookup(backbone).BACKBONE.input_size_px
    network, about, sha256 = weights.build_with_weights(backbone, side, extract.weights)
    weights.require_logits(about, name, "Use a trained model")
    preparation = extraction.published(about, side)
    return Model(name, imagenet_classes(), (Part(network, preparation, extract.flip, backbone, sha256),))


def _head(name: str, folder: Path, weight_files: Mapping[str, str]) -> Model:
    trained = trained_head.load(folder)  # before TensorFlow starts, for seconds, so that a damaged file shows at once
    parts = networks_of(trained.source, weight_files)
    if parts is None:
        raise UserError(f"{folder} was trained on features of other weights. {NEXT}")
    return Model(name, trained.source.classes, parts, trained)


def networks_of(source: Source | Joined, weight_files: Mapping[str, str]) -> tuple[Part, ...] | None:
    """Builds the networks that made some features, given `extract.weights`; None where one has other weights now."""
    tensorflow_runtime.start()
    from stages.library.networks import weights

    parts = []
    for member in source.members:
        side, blocks = member.preprocessing.input_size_px, member.feature_blocks
        network, _, weights_sha256 = weights.build_with_weights(member.backbone, side, weight_files, blocks)
        if weights_sha256 != member.weights_sha256:
            return None
        parts.append(Part(network, member.preprocessing, member.flip, member.backbone, weights_sha256))
    return tuple(parts)


def trained_on_images(name: str, folder: Path) -> Model:
    """Loads a network that was fine-tuned or trained from scratch; UserError where it is missing or damaged."""
    from stages.library.training import trained_network

    network = trained_network.load(folder)
    return Model(name, network.classes, (Part(network.outputs, network.preprocessing, network.flip, network.backbone),))
