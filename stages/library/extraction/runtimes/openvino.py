"""OpenVINO, an optional requirement: on a CPU about twice as fast as TensorFlow, and more with int8.

As many streams as there are cores, one core each, so the bits don't depend on the number of cores. There is a caller
more than streams, so that no stream waits while a caller's next images are decoded. int8 is NNCF's post-training
quantization (Jacob et al. 2018, arXiv:1712.05877): ranges of activations are those on training images. The
convolution of the pixels stays float32: it is a small part of the work and a large one of the error. Distance of
EfficientNet-Lite0's features from float32's, 96 px, Fashion-MNIST: 0.25 of their norm with it in int8, 0.17 without.
"""

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from stages.library.common import tensorflow_runtime
from stages.library.common.console import UserError
from stages.library.extraction import runtime as runtimes
from stages.library.extraction.runtime import Compiled, Plan

if TYPE_CHECKING:
    import keras
    import openvino
    import tensorflow as tf

CHANNELS = 3  # of pixels; no later layer has so few


def packages(precision: str) -> tuple[str, ...]:
    """Keras builds the network; TensorFlow decodes the images and hands the network over."""
    return ("keras", "nncf", "openvino", "tensorflow") if precision == "int8" else ("keras", "openvino", "tensorflow")


def prepare(precision: str) -> None:
    """Starts TensorFlow; UserError where OpenVINO or, for int8, NNCF is missing."""
    # Both would report each conversion to their makers, unasked, from forks of this process and its memory.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino  # noqa: F401

        if precision == "int8":
            logging.getLogger("nncf").setLevel(logging.WARNING)
            import nncf  # noqa: F401
    except ImportError as error:
        raise runtimes.missing("openvino", error) from error
    tensorflow_runtime.start()
    import keras

    tensorflow_runtime.one_core_for_each_op()
    keras.mixed_precision.set_global_policy("float32")


def compile(model: "keras.Model", plan: Plan, calibration: Iterable["tf.Tensor"]) -> Compiled:  # noqa: A001
    """Converts the network, quantizes it where asked, and compiles it for the CPU."""
    import openvino
    import tensorflow as tf
    from openvino.frontend.tensorflow import utils

    # Its own, of OpenVINO 2026.4, deletes a name in `exec` that Python 3.13 never shows there: a NameError.
    utils.get_environment_setup = lambda framework: {"tensorflow": tf.__version__}
    try:
        converted = openvino.convert_model(runtimes.frozen_graph(model, plan, None).graph)
    except openvino.frontend.OpConversionFailure as error:
        lacks = " ".join(re.findall(r"found for operations: (.+)", str(error))) or "an operation"
        raise UserError(f"`extract.runtime` must be tensorflow for {model.name}: OpenVINO lacks {lacks}") from error
    if plan.precision == "int8":
        converted = _quantized(converted, [np.asarray(image) for image in calibration])
    converted.reshape([plan.batch_size, plan.size_px, plan.size_px, 3])
    cores = tensorflow_runtime.cores()
    options: dict[str, int | str] = {"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    options["INFERENCE_PRECISION_HINT"] = "f32"  # else bfloat16 on CPUs that have it
    compiled = openvino.Core().compile_model(converted, "CPU", options)
    own = threading.local()

    def forward(images: "tf.Tensor") -> tuple[np.ndarray, ...]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        # Tensors of its own, for `infer` wraps its arguments and results anew in each call.
        np.copyto(own.request.get_input_tensor().data, memoryview(images))
        own.request.start_async()
        own.request.wait()
        return tuple(own.request.get_output_tensor(number).data.copy() for number in range(len(compiled.outputs)))

    return Compiled(forward, cores + 1)


def _quantized(model: "openvino.Model", samples: list[np.ndarray]) -> "openvino.Model":
    import nncf

    ignored = nncf.IgnoredScope(names=_of_pixels(model))
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples), ignored_scope=ignored)


def _of_pixels(model: "openvino.Model") -> list[str]:
    """Returns the names of the convolutions of three channels: one, or one for each view of an image."""
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    return [
        op.get_friendly_name() for op in convolutions if op.input(1).get_partial_shape()[1].get_length() == CHANNELS
    ]
