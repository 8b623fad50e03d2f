"""A backbone's network as one TensorFlow graph of constants."""

from typing import TYPE_CHECKING, Any

from stages.library.runtimes import Plan, tap

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def function(model: "keras.Model", plan: Plan, batch_size: int | None, staged: bool = False) -> Any:
    """Returns a concrete function from float32 pixels (batch_size, side, side, 3) to the outputs of `TAPPED`, float32.

    Args:
      model: a backbone's model.
      plan: what it is compiled for.
      batch_size: None for any.
      staged: whether the pixels come in the CPU's memory and go to a GPU from a copy of theirs, see `stage`.
    """
    import tensorflow as tf

    def tapped(images: "tf.Tensor") -> tuple["tf.Tensor", ...]:
        return tuple(tf.cast(output, tf.float32) for output in tap(model, images, plan.flip))

    compiled = tf.function(tapped, autograph=False, jit_compile=plan.xla or None)

    def through_the_stage(images: "tf.Tensor") -> tuple["tf.Tensor", ...]:
        outputs: tuple[tf.Tensor, ...] = compiled(tf.cast(stage(images, plan.precision), tf.float32))
        return outputs

    signature = [tf.TensorSpec((batch_size, plan.size_px, plan.size_px, 3), tf.float32)]
    traced = tf.function(
        through_the_stage if staged else tapped,
        input_signature=signature,
        autograph=False,
        jit_compile=None if staged else plan.xla or None,
    )
    return traced.get_concrete_function()


def stage(images: "tf.Tensor", precision: str) -> "tf.Tensor":
    """Copies pixels within the CPU's memory to where TensorFlow puts what the same graph sends to a GPU: page-locked.

    From other memory they reached an H200 at 1.5 GB/s (2,400 pictures of 224 px a second, whatever the network), half
    of what Keras' predict takes there. A network of float16 casts its input first of all, so casting it here is half
    of the bytes and no other bits.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.cast(images, tf.float16) if precision == "float16" else tf.raw_ops.DeepCopy(x=images)


def freeze(concrete: Any) -> Any:
    """Returns the function with its variables as constants: measured 1.1 to 1.3 times as fast on a CPU."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(concrete)
