"""What KerasHub lacks: from Hugging Face's SigLIP, the first and the second, to its vision encoder. See `hub_weights`.

Tschannen et al. 2025 (arXiv:2502.14786). The functions are called as those of KerasHub's converters.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stages.library.networks.hub_weights import Arrays


def convert_backbone_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `SigLIPVisionEncoder` for what config.json says below `vision_config`."""
    return {
        "patch_size": config["patch_size"],
        "hidden_dim": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "intermediate_dim": config["intermediate_size"],
        "layer_norm_epsilon": config["layer_norm_eps"],
        "image_shape": (config["image_size"], config["image_size"], 3),
    }


def convert_weights(network: Any, arrays: "Arrays", config: Mapping[str, Any]) -> None:
    """Fills the encoder; ValueError where an array is missing or has another shape."""
    heads = config["num_attention_heads"]

    def affine(layer: Any, name: str) -> None:
        arrays.port_weight(
            layer.kernel, f"{name}.weight", lambda value, _: value.transpose(*range(2, value.ndim), 1, 0)
        )
        arrays.port_weight(layer.bias, f"{name}.bias")

    def normalization(layer: Any, name: str) -> None:
        arrays.port_weight(layer.gamma, f"{name}.weight")
        arrays.port_weight(layer.beta, f"{name}.bias")

    def attention(layer: Any, name: str, kernels: np.ndarray, biases: np.ndarray) -> None:
        """Those of queries, keys and values side by side: (3 dim, dim) and (3 dim,)."""
        for dense, kernel, bias in zip(
            (layer.query_dense, layer.key_dense, layer.value_dense),
            np.split(kernels, 3),
            np.split(biases, 3),
            strict=True,
        ):
            dense.kernel.assign(kernel.T.reshape(len(kernel), heads, -1))
            dense.bias.assign(bias.reshape(heads, -1))
        dense = layer.output_dense
        arrays.port_weight(dense.kernel, f"{name}.out_proj.weight", lambda value, shape: value.T.reshape(shape))
        arrays.port_weight(dense.bias, f"{name}.out_proj.bias")

    def joined(name: str, kind: str) -> np.ndarray:
        return np.concatenate([arrays.get_tensor(f"{name}.{part}_proj.{kind}") for part in "qkv"])

    affine(network.embedding.patch_embedding, "embeddings.patch_embedding")
    positions = network.embedding.position_embedding.embeddings
    arrays.port_weight(positions, "embeddings.position_embedding.weight")
    for number, block in enumerate(network.encoder_layers):
        name = f"encoder.layers.{number}"
        at = f"{name}.self_attn"
        attention(block.self_attn, at, joined(at, "weight"), joined(at, "bias"))
        normalization(block.layer_norm1, f"{name}.layer_norm1")
        normalization(block.layer_norm2, f"{name}.layer_norm2")
        affine(block.mlp.fc1, f"{name}.mlp.fc1")
        affine(block.mlp.fc2, f"{name}.mlp.fc2")
    normalization(network.post_layer_norm, "post_layernorm")
    head, at = network.head, "head.attention"
    arrays.port_weight(head.probe, "head.probe")
    attention(head.attention, at, *(arrays.get_tensor(f"{at}.in_proj_{kind}") for kind in ("weight", "bias")))
    normalization(head.layer_norm, "head.layernorm")
    affine(head.mlp.fc1, "head.mlp.fc1")
    affine(head.mlp.fc2, "head.mlp.fc2")
