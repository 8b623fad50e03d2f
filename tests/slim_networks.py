"""TF-slim's Inception networks, evaluated with TensorFlow's ops from a checkpoint's variables.

Written from the published scopes, sizes and paddings, and without Keras: what the backbones and their loading are
compared with. Names that a network asks for and that don't exist yet are made with random values, so that a first pass
also writes the list of what a checkpoint holds.
"""

import numpy as np
import tensorflow as tf

NUM_CLASSES = 1001
SCOPES = {
    "inception_v3": "InceptionV3",
    "inception_v4": "InceptionV4",
    "inception_resnet_v2": "InceptionResnetV2",
}


class Network:
    """The variables of a network by their published names, and `ends`, the outputs of its blocks at the last pass."""

    def __init__(self, scope, forward):
        self.scope, self.forward = scope, forward
        self.variables, self.ends = {}, {}
        self._rng = np.random.default_rng(0)

    def __call__(self, pixels):
        """Returns pooled features and the logits of the classes without background, for pixels in [0, 255]."""
        features = tf.reduce_mean(self.forward(self, pixels / 127.5 - 1), (1, 2))
        scope, kernel = self.classifier(features.shape[-1])
        logits = features @ tf.reshape(kernel, (-1, NUM_CLASSES)) + self.variable(
            f"{scope}/biases", (NUM_CLASSES,), 0, 0.1
        )
        return features, logits[:, 1:]

    def classifier(self, width):
        v3 = self.scope == "InceptionV3"
        scope = "Logits/Conv2d_1c_1x1" if v3 else "Logits/Logits"
        shape = (1, 1, width, NUM_CLASSES) if v3 else (width, NUM_CLASSES)
        return scope, self.variable(f"{scope}/weights", shape, 0, width**-0.5)

    def variable(self, name, shape, mean, deviation):
        name = f"{self.scope}/{name}"
        if name not in self.variables:
            self.variables[name] = self._rng.normal(mean, deviation, shape).astype(np.float32)
        assert self.variables[name].shape == shape
        return self.variables[name]

    def conv(self, x, scope, channels, stride=1, padding="SAME", kernel=None, bias=False):
        """A convolution and batch normalization with ReLU, or a bias; its kernel size is in its name, or given."""
        height, width = kernel or map(int, scope.rpartition("_")[2].split("x"))
        shape = (height, width, x.shape[-1], channels)
        x = tf.nn.conv2d(
            x, self.variable(f"{scope}/weights", shape, 0, (2 / np.prod(shape[:3])) ** 0.5), stride, padding
        )
        if bias:
            return x + self.variable(f"{scope}/biases", (channels,), 0, 0.1)
        beta = self.variable(f"{scope}/BatchNorm/beta", (channels,), 0, 0.1)
        mean = self.variable(f"{scope}/BatchNorm/moving_mean", (channels,), 0, 0.1)
        variance = self.variable(f"{scope}/BatchNorm/moving_variance", (channels,), 1, 0.1)
        gamma = self.variables.get(f"{self.scope}/{scope}/BatchNorm/gamma", 1)  # timm's
        return tf.nn.relu((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta)

    def chain(self, x, scope, *convolutions):
        for name, channels, *how in convolutions:
            x = self.conv(x, f"{scope}/{name}", channels, *how)
        return x

    def joined(self, block, *branches):
        self.ends[block] = tf.concat(branches, 3)
        return self.ends[block]


def average(x):
    return tf.nn.avg_pool2d(x, 3, 1, "SAME")


def maximum(x):
    return tf.nn.max_pool2d(x, 3, 2, "VALID")


HALVED = (2, "VALID")


def stem_with_pools(net, x):
    """Of InceptionV3 and InceptionResNetV2."""
    x = net.conv(x, "Conv2d_1a_3x3", 32, *HALVED)
    x = net.conv(x, "Conv2d_2a_3x3", 32, 1, "VALID")
    x = maximum(net.conv(x, "Conv2d_2b_3x3", 64))
    x = net.conv(x, "Conv2d_3b_1x1", 80, 1, "VALID")
    net.ends["stem"] = maximum(net.conv(x, "Conv2d_4a_3x3", 192, 1, "VALID"))
    return net.ends["stem"]


def inception_v3(net, x):
    x = stem_with_pools(net, x)
    for block, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        odd = block == "Mixed_5c"
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 64),
            net.chain(
                x,
                f"{block}/Branch_1",
                ("Conv2d_0b_1x1" if odd else "Conv2d_0a_1x1", 48),
                ("Conv_1_0c_5x5" if odd else "Conv2d_0b_5x5", 64),
            ),
            net.chain(x, f"{block}/Branch_2", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96)),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", pooled),
        )
    x = net.joined(
        "Mixed_6a",
        net.conv(x, "Mixed_6a/Branch_0/Conv2d_1a_1x1", 384, *HALVED, kernel=(3, 3)),
        net.chain(
            x,
            "Mixed_6a/Branch_1",
            ("Conv2d_0a_1x1", 64),
            ("Conv2d_0b_3x3", 96),
            ("Conv2d_1a_1x1", 96, *HALVED, (3, 3)),
        ),
        maximum(x),
    )
    for block, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 192),
            net.chain(
                x, f"{block}/Branch_1", ("Conv2d_0a_1x1", width), ("Conv2d_0b_1x7", width), ("Conv2d_0c_7x1", 192)
            ),
            net.chain(
                x,
                f"{block}/Branch_2",
                ("Conv2d_0a_1x1", width),
                ("Conv2d_0b_7x1", width),
                ("Conv2d_0c_1x7", width),
                ("Conv2d_0d_7x1", width),
                ("Conv2d_0e_1x7", 192),
            ),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", 192),
        )
    x = net.joined(
        "Mixed_7a",
        net.chain(x, "Mixed_7a/Branch_0", ("Conv2d_0a_1x1", 192), ("Conv2d_1a_3x3", 320, *HALVED)),
        net.chain(
            x,
            "Mixed_7a/Branch_1",
            ("Conv2d_0a_1x1", 192),
            ("Conv2d_0b_1x7", 192),
            ("Conv2d_0c_7x1", 192),
            ("Conv2d_1a_3x3", 192, *HALVED),
        ),
        maximum(x),
    )
    for block, column in (("Mixed_7b", "Conv2d_0b_3x1"), ("Mixed_7c", "Conv2d_0c_3x1")):
        second = net.conv(x, f"{block}/Branch_1/Conv2d_0a_1x1", 384)
        third = net.chain(x, f"{block}/Branch_2", ("Conv2d_0a_1x1", 448), ("Conv2d_0b_3x3", 384))
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 320),
            net.conv(second, f"{block}/Branch_1/Conv2d_0b_1x3", 384),
            net.conv(second, f"{block}/Branch_1/{column}", 384),
            net.conv(third, f"{block}/Branch_2/Conv2d_0c_1x3", 384),
            net.conv(third, f"{block}/Branch_2/Conv2d_0d_3x1", 384),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", 192),
        )
    return x


def inception_resnet_v2(net, x):
    x = stem_with_pools(net, x)
    x = net.joined(
        "Mixed_5b",
        net.conv(x, "Mixed_5b/Branch_0/Conv2d_1x1", 96),
        net.chain(x, "Mixed_5b/Branch_1", ("Conv2d_0a_1x1", 48), ("Conv2d_0b_5x5", 64)),
        net.chain(x, "Mixed_5b/Branch_2", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96)),
        net.conv(average(x), "Mixed_5b/Branch_3/Conv2d_0b_1x1", 64),
    )

    def residual(x, scope, scale, first, *others, activation=tf.nn.relu):
        branches = [net.conv(x, f"{scope}/Branch_0/Conv2d_1x1", first)]
        branches += [net.chain(x, f"{scope}/Branch_{number}", *chain) for number, chain in enumerate(others, start=1)]
        up = net.conv(tf.concat(branches, 3), f"{scope}/Conv2d_1x1", x.shape[-1], bias=True)
        net.ends[scope] = activation(x + scale * up)
        return net.ends[scope]

    for number in range(1, 11):
        second = (("Conv2d_0a_1x1", 32), ("Conv2d_0b_3x3", 32))
        third = (("Conv2d_0a_1x1", 32), ("Conv2d_0b_3x3", 48), ("Conv2d_0c_3x3", 64))
        x = residual(x, f"Repeat/block35_{number}", 0.17, 32, second, third)
    x = net.joined(
        "Mixed_6a",
        net.conv(x, "Mixed_6a/Branch_0/Conv2d_1a_3x3", 384, *HALVED),
        net.chain(
            x, "Mixed_6a/Branch_1", ("Conv2d_0a_1x1", 256), ("Conv2d_0b_3x3", 256), ("Conv2d_1a_3x3", 384, *HALVED)
        ),
        maximum(x),
    )
    for number in range(1, 21):
        row_column = (("Conv2d_0a_1x1", 128), ("Conv2d_0b_1x7", 160), ("Conv2d_0c_7x1", 192))
        x = residual(x, f"Repeat_1/block17_{number}", 0.1, 192, row_column)
    x = net.joined(
        "Mixed_7a",
        net.chain(x, "Mixed_7a/Branch_0", ("Conv2d_0a_1x1", 256), ("Conv2d_1a_3x3", 384, *HALVED)),
        net.chain(x, "Mixed_7a/Branch_1", ("Conv2d_0a_1x1", 256), ("Conv2d_1a_3x3", 288, *HALVED)),
        net.chain(
            x, "Mixed_7a/Branch_2", ("Conv2d_0a_1x1", 256), ("Conv2d_0b_3x3", 288), ("Conv2d_1a_3x3", 320, *HALVED)
        ),
        maximum(x),
    )
    last = (("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x3", 224), ("Conv2d_0c_3x1", 256))
    for number in range(1, 10):
        x = residual(x, f"Repeat_2/block8_{number}", 0.2, 192, last)
    x = residual(x, "Block8", 1.0, 192, last, activation=tf.identity)
    net.ends["Conv2d_7b_1x1"] = net.conv(x, "Conv2d_7b_1x1", 1536)
    return net.ends["Conv2d_7b_1x1"]


def inception_v4(net, x):
    x = net.conv(x, "Conv2d_1a_3x3", 32, *HALVED)
    x = net.conv(x, "Conv2d_2a_3x3", 32, 1, "VALID")
    x = net.ends["stem"] = net.conv(x, "Conv2d_2b_3x3", 64)
    x = net.joined("Mixed_3a", maximum(x), net.conv(x, "Mixed_3a/Branch_1/Conv2d_0a_3x3", 96, *HALVED))
    x = net.joined(
        "Mixed_4a",
        net.chain(x, "Mixed_4a/Branch_0", ("Conv2d_0a_1x1", 64), ("Conv2d_1a_3x3", 96, 1, "VALID")),
        net.chain(
            x,
            "Mixed_4a/Branch_1",
            ("Conv2d_0a_1x1", 64),
            ("Conv2d_0b_1x7", 64),
            ("Conv2d_0c_7x1", 64),
            ("Conv2d_1a_3x3", 96, 1, "VALID"),
        ),
    )
    x = net.joined("Mixed_5a", net.conv(x, "Mixed_5a/Branch_0/Conv2d_1a_3x3", 192, *HALVED), maximum(x))
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_5e"):
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 96),
            net.chain(x, f"{block}/Branch_1", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96)),
            net.chain(x, f"{block}/Branch_2", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96)),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", 96),
        )
    x = net.joined(
        "Mixed_6a",
        net.conv(x, "Mixed_6a/Branch_0/Conv2d_1a_3x3", 384, *HALVED),
        net.chain(
            x, "Mixed_6a/Branch_1", ("Conv2d_0a_1x1", 192), ("Conv2d_0b_3x3", 224), ("Conv2d_1a_3x3", 256, *HALVED)
        ),
        maximum(x),
    )
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_6f", "Mixed_6g", "Mixed_6h"):
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 384),
            net.chain(x, f"{block}/Branch_1", ("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x7", 224), ("Conv2d_0c_7x1", 256)),
            net.chain(
                x,
                f"{block}/Branch_2",
                ("Conv2d_0a_1x1", 192),
                ("Conv2d_0b_7x1", 192),
                ("Conv2d_0c_1x7", 224),
                ("Conv2d_0d_7x1", 224),
                ("Conv2d_0e_1x7", 256),
            ),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", 128),
        )
    x = net.joined(
        "Mixed_7a",
        net.chain(x, "Mixed_7a/Branch_0", ("Conv2d_0a_1x1", 192), ("Conv2d_1a_3x3", 192, *HALVED)),
        net.chain(
            x,
            "Mixed_7a/Branch_1",
            ("Conv2d_0a_1x1", 256),
            ("Conv2d_0b_1x7", 256),
            ("Conv2d_0c_7x1", 320),
            ("Conv2d_1a_3x3", 320, *HALVED),
        ),
        maximum(x),
    )
    for block in ("Mixed_7b", "Mixed_7c", "Mixed_7d"):
        second = net.conv(x, f"{block}/Branch_1/Conv2d_0a_1x1", 384)
        third = net.chain(
            x, f"{block}/Branch_2", ("Conv2d_0a_1x1", 384), ("Conv2d_0b_3x1", 448), ("Conv2d_0c_1x3", 512)
        )
        x = net.joined(
            block,
            net.conv(x, f"{block}/Branch_0/Conv2d_0a_1x1", 256),
            net.conv(second, f"{block}/Branch_1/Conv2d_0b_1x3", 256),
            net.conv(second, f"{block}/Branch_1/Conv2d_0c_3x1", 256),
            net.conv(third, f"{block}/Branch_2/Conv2d_0d_1x3", 256),
            net.conv(third, f"{block}/Branch_2/Conv2d_0e_3x1", 256),
            net.conv(average(x), f"{block}/Branch_3/Conv2d_0b_1x1", 256),
        )
    return x
