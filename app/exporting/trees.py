"""Boosted trees as ops that TensorFlow, ONNX and TFLite have: every row walks down all trees at once, by gathers."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    import xgboost


@dataclass(frozen=True)
class Trees:
    """The trees of an XGBoost booster, their nodes in one row.

    Attributes:
      feature: int32 (nodes,), the column that a node asks for; 0 at leaves.
      threshold: float32 (nodes,); smaller values go left.
      left, right: int32 (nodes,), where to go from a node; a leaf leads to itself.
      value: float32 (nodes,), what a leaf adds to its class; 0 elsewhere.
      roots: int32 (trees,), round by round, in each round a tree for each class.
      depth: steps from a root to its deepest leaf, at most.
      base: float32 (classes,), to which the leaves are added.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    depth: int
    base: np.ndarray

    def logits(self, features: "tf.Tensor") -> "tf.Tensor":
        """Returns float32 (n, classes) for float32 features (n, dim)."""
        import tensorflow as tf

        node = tf.zeros_like(features[:, :1], tf.int32) + self.roots  # (n, trees)
        for _ in range(self.depth):
            asked = tf.gather(features, tf.gather(self.feature, node), batch_dims=1)
            goes_left = asked < tf.gather(self.threshold, node)
            node = tf.where(goes_left, tf.gather(self.left, node), tf.gather(self.right, node))
        rounds = tf.reshape(tf.gather(self.value, node), (-1, len(self.roots) // len(self.base), len(self.base)))
        return tf.reduce_sum(rounds, axis=1) + self.base


def read(booster: "xgboost.Booster", num_classes: int) -> Trees:
    """Reads the trees from the booster's published JSON form, whose floats are exact.

    Raises:
      ValueError: a tree is not one of those that the XGBoost head grows.

    Reference: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    model = learner["gradient_booster"]["model"]
    trees = model["trees"]
    if model["tree_info"] != [index % num_classes for index in range(len(trees))]:
        raise ValueError(f"the trees must come in rounds of {num_classes} classes")
    if any(any(tree["split_type"]) for tree in trees):
        raise ValueError("splits must be numerical")
    sizes = np.array([len(tree["left_children"]) for tree in trees])
    roots = np.cumsum(sizes) - sizes
    start = np.repeat(roots, sizes)  # of each node's tree
    own = np.arange(sizes.sum())

    def joined(key: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.array(tree[key], dtype) for tree in trees])

    left, right = (joined(f"{side}_children", np.int32) for side in ("left", "right"))
    leaf = left < 0
    # At a leaf the JSON form has its value in the place of a threshold.
    conditions = joined("split_conditions", np.float32)
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float32)
    return Trees(
        feature=np.where(leaf, 0, joined("split_indices", np.int32)).astype(np.int32),
        threshold=np.where(leaf, 0, conditions).astype(np.float32),
        left=np.where(leaf, own, start + left).astype(np.int32),
        right=np.where(leaf, own, start + right).astype(np.int32),
        value=np.where(leaf, conditions, 0).astype(np.float32),
        roots=roots.astype(np.int32),
        depth=max(_depth(tree["left_children"], tree["right_children"]) for tree in trees),
        base=np.broadcast_to(base, (num_classes,)),
    )


def _depth(left: list[int], right: list[int]) -> int:
    """Returns the number of steps from the root, node 0, to the deepest leaf; -1 stands for no child."""
    depth, level = 0, [0]
    while level := [child for node in level for child in (left[node], right[node]) if child >= 0]:
        depth += 1
    return depth
