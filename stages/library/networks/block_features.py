"""Features of several last blocks of a convolutional network: the means of their maps, beside the pooled features.

Early blocks know edges and textures, which later ones forget for the classes that the network was trained on. So a head
on them all is better the less the images are like those (Evci et al. 2022, Head2Toe, arXiv:2201.03529).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.library.common.console import UserError

if TYPE_CHECKING:
    import keras

    from stages.library.networks.contract import Backbone, BackboneModule

JOINED = "feature_blocks"  # the layer that puts them side by side, the pooled features last


@dataclass(frozen=True)
class BlockFeatures:
    """A backbone whose "bottleneck" is the means of the maps of its last blocks side by side; see `contract`.

    The block that ends in the pooled features is the last of the `feature_blocks`, 2 or more.
    """

    BACKBONE: "Backbone"
    module: "BackboneModule"
    feature_blocks: int

    def build(self, input_size_px: int) -> "keras.Model":
        """Returns the network with random weights; see `contract`."""
        import keras
        from keras import layers

        network = self.module.build(input_size_px)
        maps = _maps(network, self.BACKBONE, self.feature_blocks)
        means = [layers.GlobalAveragePooling2D(name=f"{JOINED}_{number}")(each) for number, each in enumerate(maps)]
        joined = layers.Concatenate(name=JOINED)([*means, network.output["bottleneck"]])
        return keras.Model(network.input, network.output | {"bottleneck": joined}, name=network.name)

    def load_weights(self, model: "keras.Model", path: Path) -> "keras.Model":
        """Fills the model from a weight file; see `contract`."""
        import keras

        wide, inner = model.output["bottleneck"], model.output | {"bottleneck": model.get_layer(JOINED).input[-1]}
        filled = self.module.load_weights(keras.Model(model.input, inner, name=model.name), path)
        return keras.Model(model.input, filled.output | {"bottleneck": wide}, name=model.name)


def widened(module: "BackboneModule", feature_blocks: int) -> BlockFeatures:
    """Returns a backbone with features of several blocks; builds it once, for nothing else knows how many they are.

    UserError where it has fewer blocks.
    """
    about = module.BACKBONE
    if feature_blocks > len(about.blocks):
        raise UserError(
            f"`extract.feature_blocks` must be at most {len(about.blocks)} for {about.name}, which has no more blocks "
            f"({', '.join(about.blocks)}). Received: {feature_blocks}"
        )
    maps = _maps(module.build(about.min_input_px), about, feature_blocks)
    width = sum(int(each.shape[-1]) for each in maps) + about.feature_width
    about = replace(about, feature_width=width, top_parameters=about.num_top_parameters)
    return BlockFeatures(about, module, feature_blocks)


def bypasses(network: "keras.Model") -> list[Any]:
    """Returns the tensors of features that reach a network's output beside its last maps."""
    return next((list(layer.input[:-1]) for layer in network.layers if layer.name == JOINED), [])


def _maps(network: "keras.Model", about: "Backbone", feature_blocks: int) -> list[Any]:
    """Returns the outputs (n, H, W, K) of the blocks before the last one."""
    ends = list(about.blocks.values())[-feature_blocks:-1]
    return [network.get_layer(end).output for end in ends]
