"""Networks as TensorFlow graphs, which answer for one image in a fraction of the time.

EfficientNet-Lite0 at 224 px takes 27 ms of CPU time in place of 187 on an AMD EPYC; compiling costs half a second.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from app.models import Model

if TYPE_CHECKING:
    import keras


def network(source: "keras.Model") -> "keras.Model":
    """Returns what can be called like a Keras network that predicts, compiled for any number of images."""
    import tensorflow as tf

    graph = tf.function(lambda images: source(images, training=False), autograph=False)
    concrete = graph.get_concrete_function(tf.TensorSpec((None, *source.inputs[0].shape[1:]), tf.float32))
    return cast("keras.Model", lambda images, training: concrete(tf.convert_to_tensor(images, tf.float32)))


def model(source: Model) -> Model:
    """Returns a loaded model that answers faster."""
    if source.network:
        return replace(source, network=replace(source.network, model=network(source.network.model)))
    assert source.backbone
    return replace(source, backbone=network(source.backbone))
