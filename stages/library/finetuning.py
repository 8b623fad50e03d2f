"""A pretrained network with a new head, of which the last blocks are trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import pydantic

from stages.library import training
from stages.library.console import UserError
from stages.library.params import CONFIG

if TYPE_CHECKING:
    import keras

    from stages.library.backbones import Backbone

CLASSIFIER = "classifier"


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class Params(training.Params):
    """Section `finetune` of params.yaml."""

    trained_blocks: Annotated[int, pydantic.Field(ge=0, description="last blocks that are trained; 0: the head alone")]
    train_batch_norm: Annotated[bool, pydantic.Field(description="train BatchNorm in the trained blocks, too")]
    head_epochs: Annotated[int, pydantic.Field(ge=1, le=10_000, description="of the head on the cached features")]


def build(backbone_model: "keras.Model", num_classes: int) -> "keras.Model":
    """Returns a network from pixels to float32 logits: the backbone up to its pooled features, and a linear head."""
    import keras

    # float32 also under mixed precision, for a softmax of float16 logits loses accuracy.
    head = keras.layers.Dense(num_classes, name=CLASSIFIER, dtype="float32")
    return keras.Model(backbone_model.input, head(backbone_model.output["bottleneck"]), name="finetuned")


def freeze(model: "keras.Model", backbone: "Backbone", params: Params) -> None:
    """Freezes all layers below the last `trained_blocks` blocks, and BatchNorm unless it is to be trained.

    A frozen BatchNorm layer runs in inference mode (Keras ties the two), so the statistics that the weights were
    trained with stay.

    Raises:
      UserError: the backbone has fewer blocks.
    """
    import keras

    names = list(backbone.blocks)
    if params.trained_blocks > len(names):
        raise UserError(
            f"`finetune.trained_blocks` must be at most {len(names)} for {backbone.name} (blocks: {', '.join(names)}). "
            f"Received: {params.trained_blocks}"
        )
    frozen_blocks = len(names) - params.trained_blocks
    if frozen_blocks:
        boundary = model.get_layer(backbone.blocks[names[frozen_blocks - 1]])
        for layer in keras.Model(model.input, boundary.output).layers:
            layer.trainable = False
    if not params.train_batch_norm:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def variables(model: "keras.Model") -> list[dict[str, Any]]:
    """Returns a row for each variable: name, shape, trained or frozen, restored from the backbone or fresh."""
    trained = {id(variable) for variable in model.trainable_variables}
    return [
        {
            "variable": variable.path,
            "shape": "x".join(str(size) for size in variable.shape),
            "state": "trained" if id(variable) in trained else "frozen",
            "origin": "fresh" if variable.path.startswith(f"{CLASSIFIER}/") else "restored",
        }
        for variable in model.variables
        if "seed_generator" not in variable.path
    ]


def write_variables(path: Path, model: "keras.Model") -> Mapping[str, int]:
    """Writes variables.csv and returns how many variables are trained and how many frozen."""
    table = pd.DataFrame(variables(model))
    table.to_csv(path, index=False, lineterminator="\n")
    return dict(table["state"].value_counts())
