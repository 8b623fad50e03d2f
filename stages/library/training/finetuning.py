"""A pretrained network with a new head, of which the last blocks are trained, and the very last may start afresh.

The published recipe (Kostadinov 2017-05-04) for InceptionV3: its Mixed_7 blocks (`reinitialized_blocks: 3`) and the
head start from random values, all variables train, BatchNorm's too. Its auxiliary head had no part in the loss.
"""

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from stages.library.common import tables
from stages.library.common.console import UserError
from stages.library.common.model_names import FINETUNED
from stages.library.common.params import CONFIG
from stages.library.networks import block_features
from stages.library.training import loop as training

if TYPE_CHECKING:
    import keras

    from stages.library.networks.contract import Backbone

CLASSIFIER = "classifier"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(training.Params):
    """Section `finetune` of params.yaml."""

    unfrozen_blocks: Annotated[
        int | None,
        pydantic.Field(ge=0, le=100, description="last blocks that are trained; 0: the head alone; null: all"),
    ]
    reinitialized_blocks: Annotated[
        int, pydantic.Field(ge=0, le=100, description="last blocks that start from random values")
    ]
    train_batch_norm: Annotated[bool, pydantic.Field(description="train BatchNorm in the trained blocks, too")]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1, description="fraction dropped before the head")]
    head_epochs: Annotated[
        int, pydantic.Field(ge=0, le=10_000, description="of the head it starts from, else as in `softmax`; 0: random")
    ]

    @pydantic.model_validator(mode="after")
    def _reinitialized_blocks_learn(self) -> "Params":
        if self.unfrozen_blocks is not None and self.reinitialized_blocks > self.unfrozen_blocks:
            raise ValueError("`reinitialized_blocks` must be <= `unfrozen_blocks`")
        if self.reinitialized_blocks and self.head_epochs:
            rule = "`head_epochs` must be 0 where `reinitialized_blocks` > 0"
            raise ValueError(f"{rule}: such a head fits other features")
        return self


def build(backbone_model: "keras.Model", num_classes: int, params: Params) -> "keras.Model":
    """Returns a network from pixels to float32 logits: the backbone up to its pooled features, and a linear head."""
    import keras

    dropout = keras.layers.Dropout(params.dropout, seed=params.seed, name="dropout")
    # float32 also under mixed precision, for a softmax of float16 logits loses accuracy.
    head = keras.layers.Dense(num_classes, name=CLASSIFIER, dtype="float32")
    return keras.Model(backbone_model.input, head(dropout(backbone_model.output["bottleneck"])), name=FINETUNED)


def features(model: "keras.Model") -> Any:
    """Returns the tensor (n, width) of a network's pooled features; of several blocks those of the last one."""
    joined = next((layer for layer in model.layers if layer.name == block_features.JOINED), None)
    return joined.input[-1] if joined else model.get_layer(CLASSIFIER).input


def restart(
    model: "keras.Model", backbone: "Backbone", params: Params, untrained: "Callable[[], keras.Model]"
) -> set[str]:
    """Gives the last `reinitialized_blocks` blocks the random values of an untrained backbone.

    Returns the names of their layers and of the head.
    """
    restored = _layers_below(model, backbone, "reinitialized_blocks", params.reinitialized_blocks)
    fresh = {layer.name for layer in model.layers} - restored
    for layer in untrained().layers if params.reinitialized_blocks else ():
        if layer.name in fresh:
            model.get_layer(layer.name).set_weights(layer.get_weights())
    return fresh


def freeze(model: "keras.Model", backbone: "Backbone", params: Params) -> None:
    """Freezes all layers below the last `unfrozen_blocks` blocks, and BatchNorm unless it is to be trained."""
    import keras

    blocks = len(backbone.blocks) if params.unfrozen_blocks is None else params.unfrozen_blocks
    frozen = _layers_below(model, backbone, "unfrozen_blocks", blocks)
    for layer in model.layers:
        # A frozen BatchNorm layer keeps its statistics, for Keras runs it in inference mode.
        if layer.name in frozen or (isinstance(layer, keras.layers.BatchNormalization) and not params.train_batch_norm):
            layer.trainable = False


def _layers_below(model: "keras.Model", backbone: "Backbone", key: str, blocks: int) -> set[str]:
    import keras

    names = list(backbone.blocks)
    if blocks > len(names):
        raise UserError(
            f"`finetune.{key}` must be at most {len(names)} for {backbone.name} (blocks: {', '.join(names)}). "
            f"Received: {blocks}"
        )
    if blocks == len(names):
        return set()
    boundary = model.get_layer(backbone.blocks[names[-blocks - 1]])
    return {layer.name for layer in keras.Model(model.input, boundary.output).layers}


def write_variables(path: Path, model: "keras.Model", fresh: Collection[str]) -> Counter[str]:
    """Writes variables.csv; `fresh` names the layers that are not the backbone's. Returns the number in each state."""
    trained = {id(variable) for variable in model.trainable_variables}
    rows = []
    for layer in model.layers:
        origin = "fresh" if layer.name in fresh else "restored"
        for variable in layer.variables:
            if "seed_generator" not in variable.path:
                state = "trained" if id(variable) in trained else "frozen"
                rows.append((variable.path, "x".join(map(str, variable.shape)), state, origin))
    tables.write_csv(path, ("variable", "shape", "state", "origin"), rows)
    return Counter(state for _, _, state, _ in rows)
