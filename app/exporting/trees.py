"""Boosted trees as ops that TensorFlow, ONNX and TFLite have: every row walks down all trees at once, by gathers."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    import xgboost


def logits_of(booster: "xgboost.Booster", num_classes: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns what gives float32 logits (n, classes) for float32 features (n, dim).

    Raises ValueError where a tree is not one of those that the XGBoost head grows. Reference, of the booster's JSON
    form, whose floats are exact: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    model = learner["gradient_booster"]["model"]
    trees = model["trees"]
    if model["tree_info"] != [index % num_classes for index in range(len(trees))]:
        raise ValueError(f"the trees must come in rounds of {num_classes} classes")
    if any(any(tree["split_type"]) for tree in trees):
        raise ValueError("splits must be numerical")

    def joined(key: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.array(tree[key], dtype) for tree in trees])

    # The nodes of all trees stand in one row; a leaf leads to itself.
    sizes = np.array([len(tree["left_children"]) for tree in trees])
    roots = np.cumsum(sizes, dtype=np.int32) - sizes.astype(np.int32)  # round by round, in each a tree for each class
    own, start = np.arange(sizes.sum(), dtype=np.int32), np.repeat(roots, sizes)
    leaf = joined("left_children", np.int32) < 0
    left, right = (np.where(leaf, own, start + joined(f"{side}_children", np.int32)) for side in ("left", "right"))
    feature = np.where(leaf, 0, joined("split_indices", np.int32))
    # Smaller values go left. At a leaf the JSON form has, in the place of a threshold, what it adds to its class.
    conditions = joined("split_conditions", np.float32)
    depth, level = 0, roots
    while not leaf[level].all():
        depth, level = depth + 1, np.union1d(left[level], right[level])
    base_score = np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float32)
    base = np.broadcast_to(base_score, (num_classes,))

    def logits(features: tf.Tensor) -> tf.Tensor:
        node = tf.zeros_like(features[:, :1], tf.int32) + roots  # (n, trees)
        for _ in range(depth):
            asked = tf.gather(features, tf.gather(feature, node), batch_dims=1)
            goes_left = asked < tf.gather(conditions, node)
            node = tf.where(goes_left, tf.gather(left, node), tf.gather(right, node))
        rounds = tf.reshape(tf.gather(conditions, node), (-1, len(roots) // num_classes, num_classes))
        return tf.reduce_sum(rounds, axis=1) + base

    return logits
