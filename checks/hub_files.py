"""Random networks in exactly the layout in which Hugging Face publishes them: model.safetensors and config.json.

The arrays' names are those of the published files: heads, text and buffers that they have beside the network, too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from stages.library.networks import hub

Config = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]

FEW: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
INNER = {"intermediate_size": 128}
SMALL: dict[str, dict[str, Any]] = {
    "dinov2": {**FEW, "image_size": 70},
    "dinov2_with_registers": {**FEW, "image_size": 70, "num_register_tokens": 4},
    "dinov3_vit": {**FEW, **INNER, "image_size": 64},
    "siglip_vision_model": {**FEW, **INNER, "image_size": 64},
    "vit": {**FEW, **INNER, "image_size": 64},
    "swin": {"embed_dim": 16, "depths": [2, 1], "num_heads": [1, 2], "image_size": 56},
}
SIDES = {
    "dinov2": (70, 42),
    "dinov2_with_registers": (70, 42),
    "swin": (56, 112),
}  # published, and another; else 64, 96


def small(kind: str) -> hub.Preset:
    """A network of one of `hub.FAMILIES`, small enough for a test."""
    return hub.preset("small", kind, "none/none", 0, **SMALL[kind])


def write(folder: Path, config: Config, seed: int = 0) -> Path:
    """Writes the files of a network (`hub.Preset.config`) into a folder; returns the path of the weights."""
    rng = np.random.default_rng(seed)
    arrays = {name: values(rng, name, shape) for name, shape in sorted(LAYOUTS[config["model_type"]](config).items())}
    path = folder / "model.safetensors"
    save_file(arrays, path, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(described(config), indent=2))
    return path


def described(config: Config) -> dict[str, Any]:
    """What config.json says."""
    if config["model_type"] == "siglip_vision_model":
        return {"model_type": "siglip", "architectures": ["SiglipModel"], "vision_config": dict(config)}
    return dict(config)


def values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random values of about the sizes of trained ones."""
    if name.endswith("relative_position_index"):
        return np.zeros(shape, np.int64)
    normal = rng.standard_normal(shape, np.float32)
    if len(shape) == 1:
        scale = any(part in name for part in ("norm", "lambda1")) and not name.endswith("bias")
        return np.float32(1 if scale else 0) + np.float32(0.2) * normal
    if any(part in name for part in ("token", "position", "probe")):
        return np.float32(0.5) * normal
    return normal / np.float32(np.prod(shape[1:]) ** 0.5)


def affine(name: str, outputs: int, inputs: tuple[int, ...], bias: bool = True) -> Shapes:
    """A dense layer or a convolution, as PyTorch keeps them."""
    return {f"{name}.weight": (outputs, *inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, width: int) -> Shapes:
    """A LayerNorm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def dinov2(config: Config) -> Shapes:
    """Names and shapes of facebook/dinov2-small and its like, with registers, too."""
    width, side = config["hidden_size"], config["patch_size"]
    found: Shapes = {"embeddings.cls_token": (1, 1, width), "embeddings.mask_token": (1, width)}
    found["embeddings.position_embeddings"] = (1, (config["image_size"] // side) ** 2 + 1, width)
    if registers := config.get("num_register_tokens"):
        found["embeddings.register_tokens"] = (1, registers, width)
    found |= affine("embeddings.patch_embeddings.projection", width, (3, side, side)) | norm("layernorm", width)
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            found |= affine(f"{name}.attention.{part}", width, (width,))
        found |= norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
        found |= {f"{name}.layer_scale{place}.lambda1": (width,) for place in (1, 2)}
        found |= affine(f"{name}.mlp.fc1", 4 * width, (width,)) | affine(f"{name}.mlp.fc2", width, (4 * width,))
    return found


def dinov3(config: Config) -> Shapes:
    """Those of facebook/dinov3-vits16-pretrain-lvd1689m."""
    width, side, inner = config["hidden_size"], config["patch_size"], config["intermediate_size"]
    found: Shapes = {"embeddings.cls_token": (1, 1, width), "embeddings.mask_token": (1, 1, width)}
    found["embeddings.register_tokens"] = (1, config["num_register_tokens"], width)
    found |= affine("embeddings.patch_embeddings", width, (3, side, side)) | norm("norm", width)
    for number in range(config["num_hidden_layers"]):
        name = f"layer.{number}"
        for part in "qkvo":
            found |= affine(f"{name}.attention.{part}_proj", width, (width,), bias=part != "k")
        found |= norm(f"{name}.norm1", width) | norm(f"{name}.norm2", width)
        found |= {f"{name}.layer_scale{place}.lambda1": (width,) for place in (1, 2)}
        found |= affine(f"{name}.mlp.up_proj", inner, (width,)) | affine(f"{name}.mlp.down_proj", width, (inner,))
    return found


def siglip(config: Config) -> Shapes:
    """Those of google/siglip2-base-patch16-224, of whose text encoder an array will do."""
    width, side, inner = config["hidden_size"], config["patch_size"], config["intermediate_size"]
    found = affine("embeddings.patch_embedding", width, (3, side, side)) | norm("post_layernorm", width)
    found["embeddings.position_embedding.weight"] = ((config["image_size"] // side) ** 2, width)
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= affine(f"{name}.self_attn.{part}", width, (width,))
        found |= norm(f"{name}.layer_norm1", width) | norm(f"{name}.layer_norm2", width)
        found |= affine(f"{name}.mlp.fc1", inner, (width,)) | affine(f"{name}.mlp.fc2", width, (inner,))
    found |= {"head.probe": (1, 1, width), "head.attention.in_proj_bias": (3 * width,)}
    found |= {"head.attention.in_proj_weight": (3 * width, width)} | norm("head.layernorm", width)
    found |= affine("head.attention.out_proj", width, (width,))
    found |= affine("head.mlp.fc1", inner, (width,)) | affine("head.mlp.fc2", width, (inner,))
    found = {f"vision_model.{name}": shape for name, shape in found.items()}
    return found | norm("text_model.final_layer_norm", width) | {"logit_scale": (1,), "logit_bias": (1,)}


def vit(config: Config) -> Shapes:
    """Those of google/vit-base-patch16-224."""
    width, side, inner = config["hidden_size"], config["patch_size"], config["intermediate_size"]
    found: Shapes = {"embeddings.cls_token": (1, 1, width)} | norm("layernorm", width)
    found["embeddings.position_embeddings"] = (1, (config["image_size"] // side) ** 2 + 1, width)
    found |= affine("embeddings.patch_embeddings.projection", width, (3, side, side))
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            found |= affine(f"{name}.attention.{part}", width, (width,))
        found |= norm(f"{name}.layernorm_before", width) | norm(f"{name}.layernorm_after", width)
        found |= affine(f"{name}.intermediate.dense", inner, (width,)) | affine(f"{name}.output.dense", width, (inner,))
    return {f"vit.{name}": shape for name, shape in found.items()} | affine("classifier", 1000, (width,))


def swin(config: Config) -> Shapes:
    """Those of microsoft/swin-tiny-patch4-window7-224."""
    width, side, window = config["embed_dim"], config["patch_size"], config["window_size"]
    found = affine("embeddings.patch_embeddings.projection", width, (3, side, side)) | norm("embeddings.norm", width)
    for stage, (depth, heads) in enumerate(zip(config["depths"], config["num_heads"], strict=True)):
        for number in range(depth):
            name = f"encoder.layers.{stage}.blocks.{number}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                found |= affine(f"{name}.attention.{part}", width, (width,))
            found[f"{name}.attention.self.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
            found[f"{name}.attention.self.relative_position_index"] = (window**2, window**2)
            found |= norm(f"{name}.layernorm_before", width) | norm(f"{name}.layernorm_after", width)
            found |= affine(f"{name}.intermediate.dense", 4 * width, (width,))
            found |= affine(f"{name}.output.dense", width, (4 * width,))
        if stage < len(config["depths"]) - 1:
            name = f"encoder.layers.{stage}.downsample"
            found |= affine(f"{name}.reduction", 2 * width, (4 * width,), bias=False) | norm(f"{name}.norm", 4 * width)
            width *= 2
    found |= norm("layernorm", width)
    return {f"swin.{name}": shape for name, shape in found.items()} | affine("classifier", 1000, (width,))


LAYOUTS = {
    "dinov2": dinov2,
    "dinov2_with_registers": dinov2,
    "dinov3_vit": dinov3,
    "siglip_vision_model": siglip,
    "vit": vit,
    "swin": swin,
}
