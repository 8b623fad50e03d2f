"""Networks of KerasHub as Keras models from pixels to features, and their weights. Imports it; see `hub`.

KerasHub has the blocks, and reads the weight files. The layer before the blocks is Decant's: it is made for any grid of
patches, and saves what was learnt. That of KerasHub's DINOv2 saves positions resampled, or not at all.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import initializers, layers, ops
from keras_hub import models
from keras_hub.src.utils.transformers import convert_dinov2, convert_dinov3, convert_swin_transformer, convert_vit

from stages.library.networks import hub_siglip, hub_weights

TOKENS_START = initializers.TruncatedNormal(stddev=0.02)


class Parts(NamedTuple):
    """Layers and variables of a network of KerasHub, by what they do; the embedding's are None where `stem` is all."""

    blocks: Sequence[Any]
    norm: Any
    stem: Any = None
    patches: Any = None  # convolution
    class_token: Any = None  # (1, 1, dim)
    registers: Any = None  # (1, registers, dim)
    positions: Any = None  # (..., tokens, dim), of class token and patches
    rotation: Any = None  # rotary positions, which go into each block
    pool: Any = None  # attention pooling, from tokens to one vector


class Kind(NamedTuple):
    """What KerasHub has for one `model_type` of Hugging Face."""

    network: Callable[..., Any]
    converter: ModuleType
    parts: Callable[[Any], Parts]
    changed: Mapping[str, Any] = {}  # of what the converter makes of config.json
    antialias: bool = False  # whether positions are interpolated with it


def _dinov2(network: Any) -> Parts:
    first = network.embeddings
    registers = first.register_tokens if network.num_register_tokens else None
    tokens = first.cls_token, registers, first.position_embeddings
    return Parts(network.encoder.layers, network.layernorm, None, first.patch_embeddings.projection, *tokens)


def _dinov3(network: Any) -> Parts:
    first = network.embeddings
    tokens = first.cls_token, first.register_tokens, None, network.rope_embedding
    return Parts(network.encoder.layers, network.layernorm, None, first.patch_embeddings.projection, *tokens)


def _siglip(network: Any) -> Parts:
    first = network.embedding
    places = first.position_embedding.embeddings
    found = Parts(network.encoder_layers, network.post_layer_norm, None, first.patch_embedding, positions=places)
    return found._replace(pool=network.head)


def _vit(network: Any) -> Parts:
    _, first, encoder = network.layers
    tokens = first.class_token, None, first.position_embedding.embeddings
    return Parts(encoder.encoder_layers, encoder.layer_norm, None, first.patch_embedding, *tokens)


def _swin(network: Any) -> Parts:
    for stage in network.stages:
        for block in stage.blocks:
            block.attn.supports_masking = True  # Keras takes its `mask`, of windows, for one of its own, and warns
    return Parts(network.stages, network.norm, network.patch_embedding)


KINDS = {
    "dinov2": Kind(models.DINOV2Backbone, convert_dinov2, _dinov2),
    "dinov2_with_registers": Kind(models.DINOV2Backbone, convert_dinov2, _dinov2, antialias=True),
    "dinov3_vit": Kind(models.DINOV3Backbone, convert_dinov3, _dinov3),
    "siglip_vision_model": Kind(models.SigLIPVisionEncoder, hub_siglip, _siglip),
    "vit": Kind(models.ViTBackbone, convert_vit, _vit, {"layer_norm_epsilon": 1e-12}),
    "swin": Kind(models.SwinTransformerBackbone, convert_swin_transformer, _swin, {"drop_path": 0.0}),
}


class Embedding(layers.Layer):  # type: ignore[misc]
    """Takes pixels (n, side, side, 3) to tokens (n, tokens, dim): class token, registers, patches."""

    def __init__(self, parts: Parts, **options: Any):
        """Copies which variables a network has, and their widths, not their values."""
        super().__init__(**options)
        side, dim = parts.patches.kernel_size[0], parts.patches.filters
        self.patches = layers.Conv2D(dim, side, side, dtype=self.dtype_policy, name="patches")
        self._has = [part is not None for part in (parts.class_token, parts.registers, parts.positions)]
        self._registers = parts.registers.shape[1] if parts.registers is not None else 0

    def build(self, shape: tuple[int, ...]) -> None:
        """Makes the variables for one size of the image."""
        self.patches.build(shape)
        is_class, is_registers, is_placed = self._has
        self._count = (shape[1] // self.patches.kernel_size[0]) ** 2

        def tokens(name: str, count: int) -> Any:
            return self.add_weight(shape=(1, count, self.patches.filters), initializer=TOKENS_START, name=name)

        self.class_token = tokens("class_token", 1) if is_class else None
        self.registers = tokens("registers", self._registers) if is_registers else None
        self.positions = tokens("positions", is_class + self._count) if is_placed else None

    def call(self, pixels: Any) -> Any:
        """Returns the tokens; registers have no position."""
        found = ops.reshape(self.patches(pixels), (-1, self._count, self.patches.filters))
        count = ops.shape(found)[0]
        if self.class_token is not None:
            found = ops.concatenate([ops.tile(self.class_token, (count, 1, 1)), found], axis=1)
        if self.positions is not None:
            found = ops.add(found, self.positions)
        if self.registers is not None:
            found = ops.concatenate([found[:, :1], ops.tile(self.registers, (count, 1, 1)), found[:, 1:]], axis=1)
        return found


def build(
    name: str, config: Mapping[str, Any], side_px: int, normalization: Sequence[Sequence[float]], feature_blocks: int
) -> keras.Model:
    """Returns a network from float32 pixels (n, side, side, 3) of [0, 255] to {"bottleneck": (n, width)}.

    `normalization` has mean and deviation of pixels in [0, 1], for each channel.
    """
    parts = KINDS[config["model_type"]].parts(published(config, side_px))
    pixels = keras.Input((side_px, side_px, 3), name="pixels")
    mean, deviation = map(np.asarray, normalization)
    x = layers.Rescaling((1 / (255 * deviation)).tolist(), (-mean / deviation).tolist(), name="scaling")(pixels)
    first = 0 if parts.class_token is None else 1 if parts.registers is None else 1 + parts.registers.shape[1]
    options = {"position_embeddings": parts.rotation(x), "num_prefix_tokens": first} if parts.rotation else {}
    # KerasHub may have called a layer before, and fine-tuning needs outputs of layers that were called once.
    x = layers.Identity(name="stem")((parts.stem or Embedding(parts, name="embedding"))(x))
    states = []
    for number, block in enumerate(parts.blocks, start=1):
        x = layers.Identity(name=f"block_{number}")(block(x, **options))
        states.append(x)
    last = [parts.norm(state) for state in states[-feature_blocks:]]
    features = [] if parts.class_token is None else [tokens[:, 0] for tokens in last]
    if parts.pool:
        features.append(parts.pool(last[-1]))
    features.append(layers.GlobalAveragePooling1D(name="patch_mean")(last[-1][:, first:]))
    return keras.Model(pixels, {"bottleneck": layers.Concatenate(name="bottleneck")(features)}, name=name)


def published(config: Mapping[str, Any], side_px: int | None = None) -> Any:
    """Returns KerasHub's own network with random weights: for the published size, or another where it has windows."""
    kind = KINDS[config["model_type"]]
    made = kind.converter.convert_backbone_config(config) | kind.changed
    if side_px and kind.parts is _swin:
        made["image_shape"] = side_px, side_px, 3
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer 'attn' .* was passed an input with a mask", UserWarning)  # see `_swin`
        return kind.network(**made)


def load_weights(model: keras.Model, config: Mapping[str, Any], path: Path) -> None:
    """Fills the model from a weight file; see `contract`."""
    kind = KINDS[config["model_type"]]
    network = published(config)
    hub_weights.load(network, kind.converter, config, path, model.name)
    parts = kind.parts(network)
    if parts.stem is None:
        embedding = model.get_layer("embedding")
        for own, its in (
            (embedding.patches.kernel, parts.patches.kernel),
            (embedding.patches.bias, parts.patches.bias),
            (embedding.class_token, parts.class_token),
            (embedding.registers, parts.registers),
        ):
            if own is not None:
                own.assign(its)
        if embedding.positions is not None:
            places = np.asarray(parts.positions).reshape(-1, embedding.patches.filters)
            embedding.positions.assign(hub_weights.interpolated(places, embedding.positions.shape[1], kind.antialias))
    for layer in (*parts.blocks, parts.norm, parts.stem, parts.pool):
        if layer is not None:
            model.get_layer(layer.name).set_weights(layer.get_weights())
