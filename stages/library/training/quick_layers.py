"""Ways to compute the layers of a network that are quicker on a CPU, and give the same but for rounding.

A frozen BatchNorm layer multiplies and shifts what a convolution gives: the factor goes into the kernel and the shift
into a bias. That spares two passes over the maps, one of them for a gradient of what isn't trained.

oneDNN, TensorFlow's library, has code for the gradient by the kernel of a depthwise convolution up to 3 x 3 pixels; for
5 x 5 it takes three to five times as long as TensorFlow's own, which explicit padding makes TensorFlow take.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

LARGEST_QUICK_PX = 3  # side of the largest kernels of which oneDNN is quick at the gradient


def use(model: "keras.Model") -> None:
    """Changes how layers compute; must come when they are frozen, and before a network of them is built or compiled."""
    import keras

    for layer in model.layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        if (depthwise or isinstance(layer, keras.layers.Conv2D)) and _is_plain(layer):
            normalization = _frozen_normalization(layer)
            if normalization:
                normalization.call = _unchanged
            if normalization or (depthwise and layer.trainable):
                layer.call = _convolution(layer, depthwise, normalization)


def _is_plain(layer: Any) -> bool:
    """Tells whether a convolution, of whatever depth, is one that `_convolution` can compute."""
    same = layer.strides[0] == layer.strides[1] and layer.dilation_rate == (1, 1)
    return same and layer.data_format == "channels_last" and getattr(layer, "groups", 1) == 1


def _frozen_normalization(layer: "keras.layers.Layer") -> "keras.layers.BatchNormalization | None":
    """Returns the frozen BatchNorm layer that gets all that a convolution gives, and nothing else."""
    import keras

    users = [node.operation for node in layer._outbound_nodes]
    if len(users) != 1 or not isinstance(users[0], keras.layers.BatchNormalization) or users[0].trainable:
        return None
    alone = len(layer._inbound_nodes) == len(users[0]._inbound_nodes) == 1
    return users[0] if alone and users[0].axis in (-1, 3) and layer.activation is keras.activations.linear else None


def _unchanged(inputs: "tf.Tensor", training: bool | None = None, mask: Any = None) -> "tf.Tensor":
    return inputs


def _convolution(layer: Any, depthwise: bool, normalization: Any) -> Any:
    """Returns what a convolution's `call` does, with the BatchNorm layer behind it, if any."""
    import tensorflow as tf

    def call(inputs: "tf.Tensor") -> "tf.Tensor":
        kernel = tf.convert_to_tensor(layer.kernel)
        bias = tf.convert_to_tensor(layer.bias) if layer.use_bias else tf.zeros(())
        if normalization:
            scale = tf.math.rsqrt(normalization.moving_variance + normalization.epsilon)
            if normalization.scale:
                scale *= normalization.gamma
            # The kernel of a depthwise one has the channels before the last axis, their multiples in it.
            kernel *= tf.reshape(scale, kernel.shape[2:]) if depthwise else scale
            bias = (bias - normalization.moving_mean) * scale
            if normalization.center:
                bias += normalization.beta
        if not depthwise:
            outputs = tf.nn.conv2d(inputs, kernel, layer.strides, layer.padding.upper())
        else:
            outputs = depthwise_convolution(inputs, kernel, layer.strides[0], layer.padding.upper())
        outputs = tf.nn.bias_add(outputs, bias) if normalization or layer.use_bias else outputs
        return layer.activation(outputs)

    return call


def depthwise_convolution(inputs: "tf.Tensor", kernel: "tf.Tensor", stride: int, padding: str) -> "tf.Tensor":
    """Returns tf.nn.depthwise_conv2d of (n, height, width, channels), whose height and width are known."""
    import tensorflow as tf

    strides = [1, stride, stride, 1]

    def plain(x: "tf.Tensor", weights: "tf.Tensor") -> "tf.Tensor":
        return tf.nn.depthwise_conv2d(x, weights, strides, padding)

    def with_gradient(x: "tf.Tensor", weights: "tf.Tensor") -> Any:
        def gradient(upstream: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
            by_input = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x), filter=weights, out_backprop=upstream, strides=strides, padding=padding
            )
            paddings = [0, 0]
            for length, out, side in zip(x.shape[1:3], upstream.shape[1:3], weights.shape[:2], strict=True):
                both = max((out - 1) * stride + side - length, 0)  # none where the padding is VALID
                paddings += both // 2, both - both // 2
            by_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x,
                filter_sizes=weights.shape,
                out_backprop=upstream,
                strides=strides,
                padding="EXPLICIT",
                explicit_paddings=[*paddings, 0, 0],
            )
            return by_input, by_kernel

        return plain(x, weights), gradient

    quick = tf.custom_gradient(with_gradient)
    return quick(inputs, kernel) if max(kernel.shape[:2]) > LARGEST_QUICK_PX else plain(inputs, kernel)
