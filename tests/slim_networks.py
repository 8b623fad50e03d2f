"""TF-slim's Inception networks, evaluated with TensorFlow's ops from a checkpoint's variables.

Written from the published scopes, sizes and paddings, and without Keras: what the backbones and their loading are
compared with. Names that a network asks for and that don't exist yet are made with random values, so that a first pass
also writes the list of what a checkpoint holds.
"""

import re

import numpy as np
import tensorflow as tf

NUM_CLASSES = 1001
SCOPES = {"inception_v3": "InceptionV3", "inception_v4": "InceptionV4", "inception_resnet_v2": "InceptionResnetV2"}


class Network:
    """The variables of a network by their published names, and `ends`, the outputs of its blocks at the last pass."""

    def __init__(self, scope, forward):
        self.scope, self.forward = scope, forward
        self.variables, self.ends = {}, {}
        self._rng = np.random.default_rng(0)

    def __call__(self, pixels):
        """Returns pooled features and the logits of the classes without background, for pixels in [0, 255]."""
        features = tf.reduce_mean(self.forward(self, pixels / 127.5 - 1), (1, 2))
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
                name = name if name.startswith("Conv") else f"Conv2d_{name}"
                stride, padding = {"": (1, "SAME"), "/2": (2, "VALID"), "/v": (1, "VALID")}[how]
                place = f"{scope}/{name}" if scope else name
                outputs.append(self.conv(x, place, int(channels), stride, padding, kernel))
            x = tf.concat(outputs, 3)
        return x

    def branched(self, x, block, *branches):
        return tf.concat([self.chain(x, f"{block}/Branch_{n}", steps) for n, steps in enumerate(branches)], 3)

    def block(self, x, block, *branches):
        self.ends[block] = self.branched(x, block, *branches)
        return self.ends[block]

    def stem(self, x, steps):
        self.ends["stem"] = self.chain(x, "", steps)
        return self.ends["stem"]


POOLS = {
    "average": lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"),
    "maximum": lambda x: tf.nn.max_pool2d(x, 3, 2, "VALID"),
}
STEM_WITH_POOLS = "1a_3x3:32/2 2a_3x3:32/v 2b_3x3:64 maximum 3b_1x1:80/v 4a_3x3:192/v maximum"


def inception_v3(net, x):
    x = net.stem(x, STEM_WITH_POOLS)
    third = "0a_1x1:64 0b_3x3:96 0c_3x3:96"
    x = net.block(x, "Mixed_5b", "0a_1x1:64", "0a_1x1:48 0b_5x5:64", third, "average 0b_1x1:32")
    x = net.block(x, "Mixed_5c", "0a_1x1:64", "0b_1x1:48 Conv_1_0c_5x5:64", third, "average 0b_1x1:64")
    x = net.block(x, "Mixed_5d", "0a_1x1:64", "0a_1x1:48 0b_5x5:64", third, "average 0b_1x1:64")
    x = net.block(x, "Mixed_6a", "1a_1x1:384/2@3x3", "0a_1x1:64 0b_3x3:96 1a_1x1:96/2@3x3", "maximum")
    for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
        second = f"0a_1x1:{width} 0b_1x7:{width} 0c_7x1:192"
        third = f"0a_1x1:{width} 0b_7x1:{width} 0c_1x7:{width} 0d_7x1:{width} 0e_1x7:192"
        x = net.block(x, f"Mixed_6{letter}", "0a_1x1:192", second, third, "average 0b_1x1:192")
    second = "0a_1x1:192 0b_1x7:192 0c_7x1:192 1a_3x3:192/2"
    x = net.block(x, "Mixed_7a", "0a_1x1:192 1a_3x3:320/2", second, "maximum")
    for letter, column in (("b", "0b_3x1"), ("c", "0c_3x1")):
        second = f"0a_1x1:384 0b_1x3:384+{column}:384"
        third = "0a_1x1:448 0b_3x3:384 0c_1x3:384+0d_3x1:384"
        x = net.block(x, f"Mixed_7{letter}", "0a_1x1:320", second, third, "average 0b_1x1:192")
    return x


def inception_resnet_v2(net, x):
    def residual(x, scope, scale, branches, activation=tf.nn.relu):
        up = net.conv(net.branched(x, scope, *branches), f"{scope}/Conv2d_1x1", x.shape[-1], bias=True)
        net.ends[scope] = activation(x + scale * up)
        return net.ends[scope]

    x = net.stem(x, STEM_WITH_POOLS)
    third = "0a_1x1:64 0b_3x3:96 0c_3x3:96"
    x = net.block(x, "Mixed_5b", "1x1:96", "0a_1x1:48 0b_5x5:64", third, "average 0b_1x1:64")
    for number in range(1, 11):
        branches = "1x1:32", "0a_1x1:32 0b_3x3:32", "0a_1x1:32 0b_3x3:48 0c_3x3:64"
        x = residual(x, f"Repeat/block35_{number}", 0.17, branches)
    x = net.block(x, "Mixed_6a", "1a_3x3:384/2", "0a_1x1:256 0b_3x3:256 1a_3x3:384/2", "maximum")
    for number in range(1, 21):
        x = residual(x, f"Repeat_1/block17_{number}", 0.1, ("1x1:192", "0a_1x1:128 0b_1x7:160 0c_7x1:192"))
    third = "0a_1x1:256 0b_3x3:288 1a_3x3:320/2"
    x = net.block(x, "Mixed_7a", "0a_1x1:256 1a_3x3:384/2", "0a_1x1:256 1a_3x3:288/2", third, "maximum")
    last = "1x1:192", "0a_1x1:192 0b_1x3:224 0c_3x1:256"
    for number in range(1, 10):
        x = residual(x, f"Repeat_2/block8_{number}", 0.2, last)
    x = residual(x, "Block8", 1.0, last, activation=tf.identity)
    net.ends["Conv2d_7b_1x1"] = net.conv(x, "Conv2d_7b_1x1", 1536)
    return net.ends["Conv2d_7b_1x1"]


def inception_v4(net, x):
    x = net.stem(x, "1a_3x3:32/2 2a_3x3:32/v 2b_3x3:64")
    x = net.block(x, "Mixed_3a", "maximum", "0a_3x3:96/2")
    x = net.block(x, "Mixed_4a", "0a_1x1:64 1a_3x3:96/v", "0a_1x1:64 0b_1x7:64 0c_7x1:64 1a_3x3:96/v")
    x = net.block(x, "Mixed_5a", "1a_3x3:192/2", "maximum")
    for letter in "bcde":
        branches = "0a_1x1:96", "0a_1x1:64 0b_3x3:96", "0a_1x1:64 0b_3x3:96 0c_3x3:96", "average 0b_1x1:96"
        x = net.block(x, f"Mixed_5{letter}", *branches)
    x = net.block(x, "Mixed_6a", "1a_3x3:384/2", "0a_1x1:192 0b_3x3:224 1a_3x3:256/2", "maximum")
    for letter in "bcdefgh":
        second = "0a_1x1:192 0b_1x7:224 0c_7x1:256"
        third = "0a_1x1:192 0b_7x1:192 0c_1x7:224 0d_7x1:224 0e_1x7:256"
        x = net.block(x, f"Mixed_6{letter}", "0a_1x1:384", second, third, "average 0b_1x1:128")
    second = "0a_1x1:256 0b_1x7:256 0c_7x1:320 1a_3x3:320/2"
    x = net.block(x, "Mixed_7a", "0a_1x1:192 1a_3x3:192/2", second, "maximum")
    for letter in "bcd":
        second = "0a_1x1:384 0b_1x3:256+0c_3x1:256"
        third = "0a_1x1:384 0b_3x1:448 0c_1x3:512 0d_1x3:256+0e_3x1:256"
        x = net.block(x, f"Mixed_7{letter}", "0a_1x1:256", second, third, "average 0b_1x1:256")
    return x
