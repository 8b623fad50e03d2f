"""TF-slim's Inception networks, evaluated with TensorFlow's ops from a checkpoint's variables.

Written from the published scopes, sizes and paddings, and without Keras: what the backbones and their loading are
compared with. Names that a network asks for and that don't exist yet are made with random values, so that a first pass
also writes the list of what a checkpoint holds.
"""

import re

import numpy as np
import tensorflow as tf

NUM_CLASSES = 1001
POOLS = {
    "average": lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    "maximum": lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"),
}
SCALES = {"Repeat": 0.17, "Repeat_1": 0.1, "Repeat_2": 0.2, "Block8": 1.0}  # by which a block is added to its input


class Network:
    """The variables of a network by their published names, and `ends`, the outputs of its blocks at the last pass."""

    def __init__(self, name):
        self.scope, self.blocks = NETWORKS[name]
        self.variables, self.ends = {}, {}
        self._rng = np.random.default_rng(0)

    def __call__(self, pixels):
        """Returns pooled features and the logits of the classes without background, for pixels in [0, 255]."""
        x = pixels / 127.5 - 1
        for block, branches in self.blocks.items():
            x = self.ends[block] = self.block(x, block, branches.split(" | "))
        features = tf.reduce_mean(x, (1, 2))
        width, is_v3 = features.shape[-1], self.scope == "InceptionV3"
        scope, shape = ("Logits/Conv2d_1c_1x1", (1, 1)) if is_v3 else ("Logits/Logits", ())
        kernel = self.variable(f"{scope}/weights", (*shape, width, NUM_CLASSES), 0, width**-0.5)
        bias = self.variable(f"{scope}/biases", (NUM_CLASSES,), 0, 0.1)
        return features, (features @ tf.reshape(kernel, (-1, NUM_CLASSES)) + bias)[:, 1:]

    def variable(self, name, shape, mean, deviation):
        name = f"{self.scope}/{name}"
        if name not in self.variables:
            self.variables[name] = self._rng.normal(mean, deviation, shape).astype(np.float32)
        assert self.variables[name].shape == shape
        return self.variables[name]

    def conv(self, x, scope, channels, stride=1, padding="SAME", kernel=None, bias=False):
        """A convolution and batch normalization with ReLU, or a bias; its kernel size is in its name, or given."""
        height, width = map(int, (kernel or scope.rpartition("_")[2]).split("x"))
        shape = (height, width, x.shape[-1], channels)
        weights = self.variable(f"{scope}/weights", shape, 0, (2 / np.prod(shape[:3])) ** 0.5)
        x = tf.nn.conv2d(x, weights, stride, padding)
        if bias:
            return x + self.variable(f"{scope}/biases", (channels,), 0, 0.1)
        beta, mean, variance = (
            self.variable(f"{scope}/BatchNorm/{name}", (channels,), name == "moving_variance", 0.1)
            for name in ("beta", "moving_mean", "moving_variance")
        )
        gamma = self.variables.get(f"{self.scope}/{scope}/BatchNorm/gamma", 1)  # timm's
        return tf.nn.relu((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta)

    def chain(self, x, scope, steps):
        """Applies steps one after the other: `average`, `maximum`, or convolutions, of one input where + joins them.

        A convolution is NAME:CHANNELS, its name without Conv2d_, and then /2 where it halves the side or /v where it
        only doesn't pad, and @HxW where its kernel isn't that of its name.
        """
        for step in steps.split():
            if step in POOLS:
                x = POOLS[step](x)
                continue
            outputs = []
            for name, channels, how, kernel in re.findall(r"(\w+):(\d+)(/[2v])?(?:@(\dx\d))?", step):
                place = scope + (name if name.startswith("Conv") else f"Conv2d_{name}")
                stride, padding = {"": (1, "SAME"), "/2": (2, "VALID"), "/v": (1, "VALID")}[how]
                outputs.append(self.conv(x, place, int(channels), stride, padding, kernel))
            x = tf.concat(outputs, 3)
        return x

    def block(self, x, block, branches):
        """A chain that is no branch, or joined branches, which are added to the input where the block has a scale."""
        if len(branches) == 1:
            return self.chain(x, "", *branches)
        joined = tf.concat([self.chain(x, f"{block}/Branch_{n}/", steps) for n, steps in enumerate(branches)], 3)
        scale = SCALES.get(block.partition("/")[0])
        if scale is None:
            return joined
        total = x + scale * self.conv(joined, f"{block}/Conv2d_1x1", x.shape[-1], bias=True)
        return total if block == "Block8" else tf.nn.relu(total)


STEM_WITH_POOLS = "1a_3x3:32/2 2a_3x3:32/v 2b_3x3:64 maximum 3b_1x1:80/v 4a_3x3:192/v maximum"
THREES = "0a_1x1:64 0b_3x3:96 0c_3x3:96"
V3_B = "0a_1x1:192 | 0a_1x1:{0} 0b_1x7:{0} 0c_7x1:192 | "
V3_B += "0a_1x1:{0} 0b_7x1:{0} 0c_1x7:{0} 0d_7x1:{0} 0e_1x7:192 | average 0b_1x1:192"
V3_C = "0a_1x1:320 | 0a_1x1:384 0b_1x3:384+{}:384 | 0a_1x1:448 0b_3x3:384 0c_1x3:384+0d_3x1:384 | average 0b_1x1:192"
INCEPTION_V3 = {
    "stem": STEM_WITH_POOLS,
    "Mixed_5b": f"0a_1x1:64 | 0a_1x1:48 0b_5x5:64 | {THREES} | average 0b_1x1:32",
    "Mixed_5c": f"0a_1x1:64 | 0b_1x1:48 Conv_1_0c_5x5:64 | {THREES} | average 0b_1x1:64",
    "Mixed_5d": f"0a_1x1:64 | 0a_1x1:48 0b_5x5:64 | {THREES} | average 0b_1x1:64",
    "Mixed_6a": "1a_1x1:384/2@3x3 | 0a_1x1:64 0b_3x3:96 1a_1x1:96/2@3x3 | maximum",
    **{f"Mixed_6{letter}": V3_B.format(width) for letter, width in zip("bcde", (128, 160, 160, 192), strict=True)},
    "Mixed_7a": "0a_1x1:192 1a_3x3:320/2 | 0a_1x1:192 0b_1x7:192 0c_7x1:192 1a_3x3:192/2 | maximum",
    "Mixed_7b": V3_C.format("0b_3x1"),
    "Mixed_7c": V3_C.format("0c_3x1"),
}
RESNET_C = "1x1:192 | 0a_1x1:192 0b_1x3:224 0c_3x1:256"
INCEPTION_RESNET_V2 = {
    "stem": STEM_WITH_POOLS,
    "Mixed_5b": f"1x1:96 | 0a_1x1:48 0b_5x5:64 | {THREES} | average 0b_1x1:64",
    **{f"Repeat/block35_{n}": "1x1:32 | 0a_1x1:32 0b_3x3:32 | 0a_1x1:32 0b_3x3:48 0c_3x3:64" for n in range(1, 11)},
    "Mixed_6a": "1a_3x3:384/2 | 0a_1x1:256 0b_3x3:256 1a_3x3:384/2 | maximum",
    **{f"Repeat_1/block17_{n}": "1x1:192 | 0a_1x1:128 0b_1x7:160 0c_7x1:192" for n in range(1, 21)},
    "Mixed_7a": "0a_1x1:256 1a_3x3:384/2 | 0a_1x1:256 1a_3x3:288/2 | 0a_1x1:256 0b_3x3:288 1a_3x3:320/2 | maximum",
    **{f"Repeat_2/block8_{n}": RESNET_C for n in range(1, 10)},
    "Block8": RESNET_C,
    "Conv2d_7b_1x1": "7b_1x1:1536",
}
V4_A = "0a_1x1:96 | 0a_1x1:64 0b_3x3:96 | 0a_1x1:64 0b_3x3:96 0c_3x3:96 | average 0b_1x1:96"
V4_B = "0a_1x1:384 | 0a_1x1:192 0b_1x7:224 0c_7x1:256 | "
V4_B += "0a_1x1:192 0b_7x1:192 0c_1x7:224 0d_7x1:224 0e_1x7:256 | average 0b_1x1:128"
V4_C = "0a_1x1:256 | 0a_1x1:384 0b_1x3:256+0c_3x1:256 | "
V4_C += "0a_1x1:384 0b_3x1:448 0c_1x3:512 0d_1x3:256+0e_3x1:256 | average 0b_1x1:256"
INCEPTION_V4 = {
    "stem": "1a_3x3:32/2 2a_3x3:32/v 2b_3x3:64",
    "Mixed_3a": "maximum | 0a_3x3:96/2",
    "Mixed_4a": "0a_1x1:64 1a_3x3:96/v | 0a_1x1:64 0b_1x7:64 0c_7x1:64 1a_3x3:96/v",
    "Mixed_5a": "1a_3x3:192/2 | maximum",
    **{f"Mixed_5{letter}": V4_A for letter in "bcde"},
    "Mixed_6a": "1a_3x3:384/2 | 0a_1x1:192 0b_3x3:224 1a_3x3:256/2 | maximum",
    **{f"Mixed_6{letter}": V4_B for letter in "bcdefgh"},
    "Mixed_7a": "0a_1x1:192 1a_3x3:192/2 | 0a_1x1:256 0b_1x7:256 0c_7x1:320 1a_3x3:320/2 | maximum",
    **{f"Mixed_7{letter}": V4_C for letter in "bcd"},
}
NETWORKS = {
    "inception_v3": ("InceptionV3", INCEPTION_V3),
    "inception_v4": ("InceptionV4", INCEPTION_V4),
    "inception_resnet_v2": ("InceptionResnetV2", INCEPTION_RESNET_V2),
}
