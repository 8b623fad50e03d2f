"""Features of every image by a pretrained network: taken from the feature store, and computed where it has none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from stages.library.common import artifacts, console, hashing, source_code, store_location
from stages.library.common.console import UserError
from stages.library.common.params import CONFIG, Geometry, ResizeMethod, Seed
from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.extraction import batch_slots, extraction_code, ray_engine
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.feature_store import FeatureStore, Rows
from stages.library.extraction.feature_table import FeatureTable
from stages.library.extraction.runtime import Plan
from stages.library.extraction.worker import Job, Worker
from stages.library.features import cache
from stages.library.features.source import Source
from stages.library.networks import contract as backbones
from stages.library.networks import weights
from stages.library.networks.contract import Backbone
from stages.library.records import manifest as manifests
from stages.library.records import preprocessing
from stages.library.records.manifest import Manifest
from stages.library.records.preprocessing import Kept, Preprocessing

ATTEMPTS = 3
PIXELS_PER_BATCH = 8 * 128**2
AUTOMATIC_BATCHES = 2, 8


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params:
    """Section `extract` of params.yaml."""

    input_size_px: Annotated[int | None, pydantic.Field(ge=32, le=1024, description="side; null: the backbone's own")]
    geometry: Annotated[Geometry | None, pydantic.Field(description="how an image becomes a square; null: likewise")]
    central_crop: Annotated[Kept | None, pydantic.Field(description="fraction of a side that is kept; null: likewise")]
    resize: Annotated[ResizeMethod | None, pydantic.Field(description="interpolation; null: likewise")]
    feature_blocks: Annotated[
        int, pydantic.Field(ge=1, le=100, description="of so many last blocks there are features, side by side")
    ]
    flip: Annotated[bool, pydantic.Field(description="average the features with those of the mirror image")]
    batch_size: Annotated[int | None, pydantic.Field(ge=1, le=4096, description="images per forward pass")]
    weights: Annotated[dict[str, str], pydantic.Field(description="backbone -> published variant or path of a file")]
    runtime: Annotated[runtimes.Name, pydantic.Field(description="what runs the network")]
    precision: Annotated[runtimes.Precision, pydantic.Field(description="of the network's arithmetic")]
    calibration_images: Annotated[int, pydantic.Field(ge=1, le=100_000, description="training images, for int8")]
    seed: Annotated[Seed, pydantic.Field(description="chooses the images for int8")]
    engine: Annotated[Literal["local", "ray"], pydantic.Field(description="where the batches are computed")]
    ray_actors: Annotated[
        int | None, pydantic.Field(ge=1, le=100_000, description="null: as many as there is room for")
    ]
    ray_cpus: Annotated[int, pydantic.Field(ge=1, le=100_000, description="cores of each actor")]
    ray_gpus: Annotated[float, pydantic.Field(ge=0, le=100_000, description="GPUs of each actor, e.g. 0.5")]

    @pydantic.field_validator("weights")
    @classmethod
    def _known(cls, chosen: dict[str, str]) -> dict[str, str]:
        known = plugin_names(PLUGINS["backbones"])
        if not set(chosen) <= set(known):
            raise ValueError(f"keys must be among {', '.join(known)}")
        return chosen

    @pydantic.field_validator("ray_gpus")
    @classmethod
    def _can_be_shared(cls, gpus: float) -> float:
        if 0 < gpus < 0.0001 or (gpus > 1 and not gpus.is_integer()):
            raise ValueError("must be 0, a fraction from 0.0001 to 1, or a whole number, as Ray takes them")
        return gpus

    @pydantic.model_validator(mode="after")
    def _suits_the_runtime(self) -> "Params":
        possible = {"tensorflow": ("float32", "float16"), "openvino": ("float32", "int8")}[self.runtime]
        if self.precision not in possible:
            raise ValueError(f"`precision` must be {' or '.join(possible)} with `runtime` {self.runtime}")
        return self


@dataclass(frozen=True)
class Extracted:
    """What `extract` did: numbers of images, how many of them were computed, side of the input in pixels."""

    images: int
    computed: int
    size_px: int


def input_size_px(backbone: Backbone, params: Params) -> int:
    """Returns the side of the square input; raises UserError where it is below what the backbone can take."""
    size_px = params.input_size_px or backbone.input_size_px
    if size_px < backbone.min_input_px:
        raise UserError(
            f"`extract.input_size_px` must be at least {backbone.min_input_px} for {backbone.name}, or null for its "
            f"own {backbone.input_size_px}. Received: {size_px}"
        )
    return size_px


def published(backbone: Backbone, size_px: int) -> Preprocessing:
    """Returns how images became a backbone's input where it was published, with a side of `size_px` pixels."""
    return Preprocessing(size_px, backbone.central_crop, backbone.resize, backbone.geometry, backbone.mean_rgb)


def preparation(backbone: Backbone, params: Params) -> Preprocessing:
    """Returns how images become a backbone's input: as in `params`, and where those say null as it was published.

    But `geometry: pad` without a `central_crop` shows the whole image. UserError as of `input_size_px`.
    """
    own = published(backbone, input_size_px(backbone, params))
    fraction = 1.0 if params.geometry == "pad" else own.central_crop
    return replace(
        own,
        geometry=params.geometry or own.geometry,
        central_crop=params.central_crop or fraction,
        resize=params.resize or own.resize,
    )


def batch_size(params: Params, size_px: int) -> int:
    """Returns the number of images per forward pass; without one in `params`, what keeps a CPU core's cache in use.

    Measured on 2 cores with EfficientNet-Lite0, images a second by TensorFlow with batches of 1, 2, 4, 8 and 16: at
    96 px 252, 295, 356, 423, 456; at 224 px 83, 87, 81, 73, 70; by OpenVINO 583, 607, 797, 903, 860 and 159, 166, 164,
    151, 142. InceptionV3 at 299 px is as fast with any of them. Large batches also leave slots empty (`batch_slots`).
    """
    if params.batch_size is not None:
        return params.batch_size
    fitting = PIXELS_PER_BATCH // size_px**2
    return int(np.clip(1 << max(fitting.bit_length() - 1, 0), *AUTOMATIC_BATCHES))


def covered(
    backbone: Backbone, weights_sha256: str, prepared: Preprocessing, plan: Plan, runtime: str, calibration: str = ""
) -> dict[str, Any]:
    """Returns all that an image's features depend on beside the image; its hash is their fingerprint.

    `calibration` is the hash over the images that int8 is calibrated on.
    """
    return {
        "code": source_code.sha256(extraction_code.files(backbone.name, runtime)),
        "versions": extraction_code.versions(backbone, runtime, plan.precision),
        "backbone": backbone.name,
        "definition": backbones.definition(backbone.name),
        "weights_sha256": weights_sha256,
        "feature_width": backbone.feature_width,  # which tells `feature_blocks`
        "preprocessing": {"description": preprocessing.DESCRIPTION, **asdict(prepared)},
        "runtime": runtime,
        "plan": asdict(plan),
        "calibration": calibration,
        "forward_outputs": runtimes.FORWARD_OUTPUTS,
        "dtype": cache.DTYPE,
    }


def fingerprint(content: dict[str, Any]) -> str:
    """Returns the hex sha256 over what `covered` returns."""
    return artifacts.sha256_bytes(artifacts.canonical_json(content).encode())


def calibration_rows(manifest: Manifest, params: Params) -> tuple[int, ...]:
    """Returns the rows of the training images that int8 is calibrated on, the same ones in whatever order they stand.

    `calibration_images` of them are chosen by `seed`, or all where there are fewer.
    """
    training = [path.name.startswith("train-") for path in manifest.paths]
    rows = np.flatnonzero(np.repeat(training, manifest.counts))
    rows = rows[np.unique(manifest.keys[rows], return_index=True)[1]]
    numbers = [hashing.uniform(key.decode(), "calibration", params.seed) for key in manifest.keys[rows].tolist()]
    return tuple(rows[np.argsort(numbers)[: params.calibration_images]].tolist())


def extract(
    name: str, params: Params, shards: Path, dataset: Mapping[str, Any], out: Path, need_logits: Sequence[str] = ()
) -> Extracted:
    """Writes the features of every image: `out/SPLIT-00000-of-00004.parquet`, one file per TFRecord shard.

    They come from the feature store; what it lacks is computed and added first, part by part, so that a killed run goes
    on where it was. The files are the same bytes whatever the store held. Memory is independent of the number of
    images, but for some 150 bytes each. The folder `out` exists; `dataset` is the content of the shards' dataset.json;
    `need_logits` says what needs logits, which weights without a top don't give.

    UserError where logits are needed and not there, shards or weights are missing, damaged or of another data set, or
    the input size is too small.
    """
    runtime = runtimes.lookup(params.runtime)
    backbone = weights.describe(name, params.weights, lambda: runtime.prepare(params.precision), params.feature_blocks)
    for setting in need_logits:
        weights.require_logits(backbone, setting, "Set it to bottleneck")
    prepared = preparation(backbone, params)
    size_px = prepared.input_size_px
    plan = Plan(size_px, batch_size(params, size_px), params.flip, params.precision)
    manifest = manifests.read(shards)
    if "content_sha256" in dataset:
        manifest.check(dataset)
    weights_sha256 = artifacts.sha256_file(weights.locate(backbone, params.weights.get(name)))
    calibration = calibration_rows(manifest, params) if params.precision == "int8" else ()
    sample = artifacts.sha256_bytes(b"".join(manifest.keys[list(calibration)])) if calibration else ""
    content = covered(backbone, weights_sha256, prepared, plan, params.runtime, sample)
    identity = fingerprint(content)
    job = Job(name, params.weights, prepared, params.runtime, plan, manifest, calibration, params.feature_blocks)
    widths = backbone.feature_width, backbone.num_logits
    store = FeatureStore(store_location.root() / identity, content, *widths)
    table = FeatureTable(out / "rows.partial", manifest, *widths)
    try:
        computed = 0
        for _ in range(ATTEMPTS):  # a part that is damaged or vanishes between is computed again
            missing = table.missing(store.keys(store.parts()))
            if len(missing):
                _compute(job, params, missing, store, dataset["name"], table)
                computed += len(missing)
            if not table.complete:
                for part in store.read(store.parts()):
                    table.fill(part)
            if table.complete:
                break
        else:
            raise UserError(f"{store_location.root()} loses what is written to it. Set DECANT_STORE to another folder")
        store.mark_used()
        about = name, prepared, params.flip, weights_sha256, identity
        source = Source(*about, tuple(dataset["classes"]), params.feature_blocks)
        table.write_shards(out, source)
    finally:
        table.close()
    return Extracted(len(manifest.keys), computed, size_px)


def _compute(
    job: Job, params: Params, missing: np.ndarray, store: FeatureStore, dataset: str, table: FeatureTable
) -> None:
    """Adds the features of some rows of the manifest to the store; those computed in this process to the table, too."""
    schedule = batch_slots.schedule(job.manifest.keys[missing], job.plan.batch_size)
    batches = np.where(schedule >= 0, missing[schedule], -1)

    def taken() -> Iterator[Rows]:
        for rows in Worker(job).features(batches):
            table.fill(rows)  # which saves reading them again
            yield rows

    if params.engine == "ray":
        cluster = params.ray_actors, params.ray_cpus, params.ray_gpus
        counts = ray_engine.run(job, batches, store, dataset, *cluster)
    else:
        counts = store.add(taken(), dataset)
    with console.progress(missing, f"bottleneck-extract {job.backbone}", "images") as bar:
        for count in counts:
            bar.update(count)
