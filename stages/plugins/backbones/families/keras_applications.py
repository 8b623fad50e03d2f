"""Networks of keras.applications: what each one has of its own stands in keras_applications.csv, the rest here.

Accuracies are those of https://keras.io/api/applications, MobileNetV3's those of its docstring; file names and hashes
are those of Keras' code, which has no hashes of MobileNet's and MobileNetV2's. Images are prepared as where those
accuracies were measured (https://github.com/keras-team/keras-applications/issues/88): bicubic, cut to 7/8 of the
shorter side; those of ConvNeXt, both EfficientNets and MobileNetV3 as by the authors, whose accuracies Keras states.
The Inception networks, which also read TF-slim's checkpoints, are modules of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.library.common import tables
from stages.library.networks.contract import IMAGENET_MEAN, Backbone
from stages.library.networks.keras_applications import CAFFE_MEAN, Application, published

HALVES = (128.0, 128.0, 128.0)
COLUMNS: dict[str, type] = {
    **dict.fromkeys(("name", "constructor", "family", "depths"), str),
    **dict.fromkeys(("input_size_px", "feature_width", "parameters", "top_parameters"), int),
    "top1": float,
    **dict.fromkeys(("file", "hash", "notop_file", "notop_hash"), str),
}
Blocks = dict[str, str]  # name -> last layer


def units(layer: Callable[[int, int], str], depths: Sequence[int]) -> Blocks:
    """Returns all blocks of all stages; `layer` names the last one of a block, given numbers from 1."""
    return {
        f"stage_{stage}_block_{block}": layer(stage, block)
        for stage, depth in enumerate(depths, start=1)
        for block in range(1, depth + 1)
    }


def ending(blocks: Blocks, layer: str) -> Blocks:
    """Returns blocks of which the last one reaches up to another layer."""
    return blocks | {list(blocks)[-1]: layer}


def convnext(name: str, depths: Sequence[int]) -> Blocks:
    """The sum with a block's input is no layer. The last block has the pooled features' LayerNorm."""
    blocks = units(lambda stage, block: f"{name}_stage_{stage - 1}_block_{block - 1}_identity", depths)
    return {"stem": f"{name}_stem"} | ending(blocks, f"{name}_head_layernorm")


def densenet(name: str, depths: Sequence[int]) -> Blocks:
    """A block is a layer of a dense block; the first one of a stage has the transition before it."""
    blocks = units(lambda stage, block: f"conv{stage + 1}_block{block}_concat", depths)
    return {"stem": "pool1"} | ending(blocks, "relu")


def efficientnet(name: str, depths: Sequence[int]) -> Blocks:
    """Blocks are stages."""
    ends = {
        f"stage_{stage}": f"block{stage}{chr(ord('a') + depth - 1)}_{'add' if depth > 1 else 'project_bn'}"
        for stage, depth in enumerate(depths, start=1)
    }
    return {"stem": "stem_activation", **ends, "head": "avg_pool"}


def efficientnet_v2(name: str, depths: Sequence[int]) -> Blocks:
    """Blocks are stages; a first one of a single layer has no expansion, so its activation stands last."""
    blocks = efficientnet(name, depths)
    return blocks | ({"stage_1": "block1a_project_activation"} if depths[0] == 1 else {})


def mobilenet(name: str, depths: Sequence[int]) -> Blocks:
    """Each block is a depthwise and a pointwise convolution."""
    return {"stem": "conv1_relu"} | units(lambda _, block: f"conv_pw_{block}_relu", depths)


def inverted_residuals(stem: str, separator: str, normalized: str, head: str, adds: bool) -> Callable[..., Blocks]:
    """Returns the rule of MobileNetV2 and V3: the first block of a stage, which strides or widens, adds nothing."""

    def blocks(name: str, depths: Sequence[int]) -> Blocks:
        def layer(stage: int, block: int) -> str:
            number = sum(depths[: stage - 1]) + block - 1
            prefix = f"{separator}{number}" if number else "expanded_conv"
            added = block > 1 or (number == 0 and adds)
            return f"{prefix}_add" if added else f"{prefix}_{normalized}"

        return {"stem": stem, **units(layer, depths), "head": head}

    return blocks


def nasnet(name: str, depths: Sequence[int]) -> Blocks:
    """Two reduction cells, then stages of normal cells, the later ones with a reduction cell before them."""
    (normal,) = set(depths)
    stems = {f"stem_{number}": f"reduction_concat_stem_{number}" for number in (1, 2)}
    cells = units(lambda stage, cell: f"normal_concat_{(stage - 1) * normal + cell - (stage == 1)}", depths)
    return {"stem": "stem_bn1"} | stems | cells


def residual(name: str, depths: Sequence[int]) -> Blocks:
    """ResNet."""
    return {"stem": "pool1_pool"} | units(lambda stage, block: f"conv{stage + 1}_block{block}_out", depths)


def residual_v2(name: str, depths: Sequence[int]) -> Blocks:
    """Its last block has the normalization after it, which activates before each block else."""
    return ending(residual(name, depths), "post_relu")


def vgg(name: str, depths: Sequence[int]) -> Blocks:
    """Each convolution is a block."""
    return units(lambda stage, block: f"block{stage}_conv{block}", depths)


def xception(name: str, depths: Sequence[int]) -> Blocks:
    """Blocks count from 2, as in the paper; the sums of a block are layers that Keras names by their class."""
    (last,) = depths
    middle = {f"block_{number}": f"add_{number - 2}" for number in range(3, last)}
    return {"stem": "block1_conv2_act", "block_2": "add", **middle, f"block_{last}": f"block{last}_sepconv2_act"}


@dataclass(frozen=True)
class Family:
    """What networks of one paper share: `about` is for `Backbone`, `network` for `Application`."""

    paper: str
    licence: str
    blocks: Callable[[str, Sequence[int]], Blocks]
    about: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    cut_px: int = 0  # of the resized shorter side, where the crop goes with the input size


BICUBIC = {"resize": "bicubic"}
SLIM = {"geometry": "squash", "resize": "bilinear_tf1"}  # as TF-slim prepares images for its Inceptions, too
WHOLE = {"geometry": "squash", "central_crop": 1.0}  # its authors crop for inputs below 320 px alone
OF_IMAGENET = {"mean_rgb": IMAGENET_MEAN}
OF_CAFFE = {"mean_rgb": CAFFE_MEAN}
TO_ONE = {"scaling": "to_one"}
CAFFE = {"scaling": "caffe"}
LARGE_V3 = inverted_residuals("conv_bn", "expanded_conv_", "project_bn", "conv_1_bn", adds=True)
SMALL_V3 = inverted_residuals("conv_bn", "expanded_conv_", "project_bn", "conv_1_bn", adds=False)
V2 = inverted_residuals("Conv1_relu", "block_", "project_BN", "out_relu", adds=False)
FAMILIES = {
    "convnext": Family("arXiv:2201.03545", "MIT", convnext, BICUBIC | OF_IMAGENET),
    "densenet": Family(
        "arXiv:1608.06993", "BSD-3-Clause", densenet, BICUBIC | OF_IMAGENET, {"scaling": "standardized"}
    ),
    "efficientnet": Family(
        "arXiv:1905.11946", "Apache-2.0", efficientnet, BICUBIC | OF_IMAGENET, {"rescaled_inside": True}, cut_px=32
    ),
    "efficientnet_v2_b": Family("arXiv:2104.00298", "Apache-2.0", efficientnet_v2, BICUBIC | OF_IMAGENET, cut_px=32),
    "efficientnet_v2": Family("arXiv:2104.00298", "Apache-2.0", efficientnet_v2, WHOLE | {"mean_rgb": HALVES}),
    "mobilenet": Family("arXiv:1704.04861", "Apache-2.0", mobilenet, BICUBIC, TO_ONE),
    "mobilenet_v2": Family("arXiv:1801.04381", "Apache-2.0", V2, BICUBIC, TO_ONE),
    "mobilenet_v3_large": Family("arXiv:1905.02244", "Apache-2.0", LARGE_V3, SLIM),
    "mobilenet_v3_small": Family("arXiv:1905.02244", "Apache-2.0", SMALL_V3, SLIM),
    "nasnet": Family("arXiv:1707.07012", "Apache-2.0", nasnet, BICUBIC, TO_ONE),
    "resnet": Family("arXiv:1512.03385", "MIT", residual, BICUBIC | OF_CAFFE, CAFFE),
    "resnet_v2": Family("arXiv:1603.05027", "BSD-3-Clause", residual_v2, BICUBIC, TO_ONE),
    "vgg": Family("arXiv:1409.1556", "CC-BY-4.0", vgg, BICUBIC | OF_CAFFE, CAFFE | {"hidden_units": (4096, 4096)}),
    "xception": Family("arXiv:1610.02357", "MIT", xception, BICUBIC | {"min_input_px": 71}, TO_ONE),
}


def network(row: dict[str, str]) -> Application:
    """Returns what a row of the table says together with its family."""
    family, name, side = FAMILIES[row["family"]], row["name"], int(row["input_size_px"])
    about, options = dict(family.about), dict(family.network)
    if family.cut_px:
        about["central_crop"] = round(side / (side + family.cut_px), 4)
    if row["family"] == "convnext":
        options["pooled"] = f"{name}_head_layernorm"
    backbone = Backbone(
        name=name,
        paper=family.paper,
        weights=published(row["file"], row["hash"], row["notop_file"], row["notop_hash"], licence=family.licence),
        input_size_px=side,
        feature_width=int(row["feature_width"]),
        num_parameters=int(row["parameters"]),
        top_parameters=int(row["top_parameters"]),
        blocks=family.blocks(name, [int(depth) for depth in row["depths"].split()]),
        top1=float(row["top1"]),
        **about,
    )
    return Application(backbone, row["constructor"], **options)


ROWS = tables.read_csv(Path(__file__).with_suffix(".csv"), COLUMNS)
MEMBERS = {row["name"]: network(row) for row in ROWS}
