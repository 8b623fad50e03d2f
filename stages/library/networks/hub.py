"""Networks of KerasHub, an optional requirement that is imported where one is built: plugins/backbones/families/hub.py.

A vision transformer's features are those of DINOv2's linear evaluation (Oquab et al. 2023, arXiv:2304.07193): class
tokens of the last blocks, earlier ones first, and the mean of the last block's patch tokens, each token through the
final LayerNorm. Register tokens (Darcet et al. 2023, arXiv:2309.16588) are left out. SigLIP has no class token: its
attention pooling stands for it. Swin gives the mean alone. No network has logits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.library.common.console import UserError
from stages.library.common.params import Geometry, ResizeMethod
from stages.library.networks.contract import Backbone, Weights

if TYPE_CHECKING:
    import keras

Channels = tuple[float, float, float]  # RGB
Config = dict[str, Any]

SMALLEST_PX = 32
REQUIREMENTS = "requirements-hub.txt"
PACKAGES = ("keras-hub",)  # whose versions decide the features


class Family(NamedTuple):
    """What networks have in common: the publication, how pixels are prepared, and Hugging Face's config.json."""

    paper: str
    licence: str
    normalization: tuple[Channels, Channels]  # mean and deviation of pixels in [0, 1]
    prepared: tuple[Geometry, float, ResizeMethod]  # with the central crop between
    config: Mapping[str, Any]


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
WITHOUT_DROPOUT: Config = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OF_DINOV2: Config = {
    "patch_size": 14,
    "image_size": 518,
    "mlp_ratio": 4,
    "layerscale_value": 1.0,
    "drop_path_rate": 0.0,
}
OF_DINOV2 |= {"use_swiglu_ffn": False, "qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-6}
OF_DINOV3: Config = {"patch_size": 16, "image_size": 224, "num_register_tokens": 4, "layerscale_value": 1.0}
OF_DINOV3 |= {"query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True, "mlp_bias": True}
OF_DINOV3 |= {"hidden_act": "gelu", "use_gated_mlp": False, "attention_dropout": 0.0, "drop_path_rate": 0.0}
OF_DINOV3 |= {"layer_norm_eps": 1e-5, "rope_theta": 100.0}
OF_SIGLIP: Config = {"patch_size": 16, "image_size": 224, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
OF_VIT: Config = {"patch_size": 16, "image_size": 224, "qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
OF_SWIN: Config = {"patch_size": 4, "image_size": 224, "window_size": 7, "mlp_ratio": 4.0, "qkv_bias": True}
OF_SWIN |= {"drop_path_rate": 0.1, "hidden_act": "gelu", "layer_norm_eps": 1e-5}

CROP: tuple[Geometry, float, ResizeMethod] = "crop", 0.875, "bicubic"
SQUASH: tuple[Geometry, float, ResizeMethod] = "squash", 1.0, "bilinear"
FAMILIES = {
    "dinov2": Family("arXiv:2304.07193", "Apache-2.0", IMAGENET, CROP, OF_DINOV2 | WITHOUT_DROPOUT),
    "dinov2_with_registers": Family("arXiv:2309.16588", "Apache-2.0", IMAGENET, CROP, OF_DINOV2 | WITHOUT_DROPOUT),
    "dinov3_vit": Family("arXiv:2508.10104", "DINOv3 License", IMAGENET, SQUASH, OF_DINOV3),
    "siglip_vision_model": Family("arXiv:2502.14786", "Apache-2.0", HALF, SQUASH, OF_SIGLIP),
    "vit": Family("arXiv:2010.11929", "Apache-2.0", HALF, SQUASH, OF_VIT | WITHOUT_DROPOUT),
    "swin": Family("arXiv:2103.14030", "MIT", IMAGENET, CROP, OF_SWIN | WITHOUT_DROPOUT),
}


@dataclass(frozen=True)
class Preset:
    """A network of KerasHub; gives all that a backbone's module offers (see `contract`).

    `config` is what Hugging Face's config.json says of it; `feature_blocks`, of how many blocks class tokens are taken.
    """

    BACKBONE: Backbone
    config: Mapping[str, Any]
    feature_blocks: int = 1

    @property
    def step_px(self) -> int:
        """Sides of the input are multiples of it: of a patch, and where there are windows, of one in each stage."""
        windows = self.config.get("window_size", 1) << len(self.config.get("depths", [0])) - 1
        return int(self.config["patch_size"] * windows)

    def with_feature_blocks(self, feature_blocks: int) -> "Preset":
        """Returns the network with class tokens of so many last blocks; the same where it has no such token."""
        if not has_class_token(self.config):
            return self
        if not 1 <= feature_blocks <= self.config["num_hidden_layers"]:
            raise UserError(
                f"`extract.feature_blocks` must be at most {self.config['num_hidden_layers']} for "
                f"{self.BACKBONE.name}. Received: {feature_blocks}"
            )
        about = replace(self.BACKBONE, feature_width=(feature_blocks + 1) * self.config["hidden_size"])
        return replace(self, BACKBONE=about, feature_blocks=feature_blocks)

    def pinned(self, sha256: str | None) -> "Preset":
        """Returns the network whose published file has this hash; None: the first download's is recorded."""
        ((variant, file),) = self.BACKBONE.weights.items()
        return replace(self, BACKBONE=replace(self.BACKBONE, weights={variant: replace(file, sha256=sha256)}))

    def build(self, input_size_px: int) -> "keras.Model":
        """Returns the network with random weights; UserError: the side suits no grid of patches. See `contract`."""
        if input_size_px % self.step_px or input_size_px < self.BACKBONE.min_input_px:
            raise UserError(
                f"`extract.input_size_px` must be a multiple of {self.step_px} for {self.BACKBONE.name}, from "
                f"{self.BACKBONE.min_input_px} on, for its patches or windows to fit, or null for its own "
                f"{self.BACKBONE.input_size_px}. Received: {input_size_px}"
            )
        family = FAMILIES[self.config["model_type"]]
        described = self.BACKBONE.name, self.config, input_size_px, family.normalization, self.feature_blocks
        model: keras.Model = self._networks().build(*described)
        return model

    def load_weights(self, model: "keras.Model", path: Path) -> "keras.Model":
        """Fills the model from Hugging Face's .safetensors or KerasHub's .weights.h5; see `contract`."""
        self._networks().load_weights(model, self.config, path)
        return model

    def _networks(self) -> ModuleType:
        try:
            from stages.library.networks import hub_networks
        except ImportError as error:
            raise missing(self.BACKBONE.name, error.name) from error
        return hub_networks


def missing(backbone: str, package: str | None) -> UserError:
    """Returns what to say where a package lacks that a backbone needs."""
    return UserError(f"the backbone {backbone} needs what is missing ({package}). Run: pip install -r {REQUIREMENTS}")


def has_class_token(config: Mapping[str, Any]) -> bool:
    """Tells whether a network has a class token before its patches."""
    return config["model_type"] not in ("siglip_vision_model", "swin")


def preset(
    name: str,
    model_type: str,
    source: str,
    num_parameters: int,
    top1: float | None = None,
    input_size_px: int = 224,
    **config: Any,
) -> Preset:
    """Returns a network of one of `FAMILIES`, published at Hugging Face as `source` ("facebook/dinov2-small").

    `config` is what its config.json says beside what the family has in common.
    """
    family = FAMILIES[model_type]
    whole = {"model_type": model_type, **family.config, **config}
    blocks = len(whole["depths"]) if model_type == "swin" else whole["num_hidden_layers"]
    width = whole["embed_dim"] << blocks - 1 if model_type == "swin" else 2 * whole["hidden_size"]
    geometry, central_crop, resize = family.prepared
    red, green, blue = family.normalization[0]
    url = f"https://huggingface.co/{source}/resolve/main/model.safetensors"
    about = Backbone(
        name=name,
        paper=family.paper,
        weights={"huggingface": Weights(f"{name}.safetensors", family.licence, (url,))},
        input_size_px=input_size_px,
        feature_width=width,
        num_parameters=num_parameters,
        blocks={
            "stem": "stem",
            **{f"block_{n}": f"block_{n}" for n in range(1, blocks)},
            f"block_{blocks}": "bottleneck",
        },
        top1=top1,
        num_logits=0,
        geometry=geometry,
        central_crop=central_crop,
        resize=resize,
        mean_rgb=(255 * red, 255 * green, 255 * blue),
        packages=PACKAGES,
    )
    found = Preset(about, whole)
    least = found.step_px * math.ceil(SMALLEST_PX / found.step_px)
    return replace(found, BACKBONE=replace(about, min_input_px=least))
