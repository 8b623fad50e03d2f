"""The formats of exported models, by the name in --format.

What runs a file is usage.py, and travels with it as predict.py. Heavy imports stand inside the functions.
"""

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.library.common.console import UserError

if TYPE_CHECKING:
    from app.exporting.graph import Graph

PILLOW = "'pillow>=11.3'"  # the first with AVIF
OPSET = 18  # of ONNX, December 2022: the runtimes of the years since know it


@dataclass(frozen=True)
class Format:
    """A format."""

    name: str  # in --format
    file: str  # name of the exported file or folder
    write: Callable[["Graph", Path], None]  # writes a model to that new path; the same bytes for the same model
    runs_with: tuple[str, ...]  # what the file needs to run, as it is installed, for people to read
    packages: tuple[str, ...] = ()  # Python packages that writing and checking need beside requirements.txt

    def check_packages(self) -> None:
        """Raises UserError where a package is missing."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                needed = f"--format {self.name} needs the package {package}, which is missing"
                raise UserError(f"{needed}. Run: pip install -r requirements-export.txt")


def write_saved_model(graph: "Graph", path: Path) -> None:
    """Writes TensorFlow's own format, a folder: "serving_default" takes pixels, "encoded" JPEG or PNG files."""
    import tensorflow as tf
    from tensorflow.core.protobuf import fingerprint_pb2

    module = tf.Module()
    module.pixels = graph.of_pixels(portable=False)
    module.encoded = graph.of_encoded()
    signatures = {"serving_default": module.pixels, "encoded": module.encoded}
    tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    fingerprint.ClearField("uuid")  # drawn at random; the hashes beside it stay
    file.write_bytes(fingerprint.SerializeToString(deterministic=True))


def write_tflite(graph: "Graph", path: Path) -> None:
    """Writes TFLite, now LiteRT, of built-in ops only, so that every runtime runs it."""
    import tensorflow as tf

    module = tf.Module()
    module.pixels = graph.of_pixels(portable=True)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.pixels.get_concrete_function()], module)
    path.write_bytes(converter.convert())


def write_onnx(graph: "Graph", path: Path) -> None:
    """Writes ONNX, by tf2onnx: for ONNX Runtime, OpenVINO, TensorRT, browsers and most languages."""
    import tf2onnx

    function = graph.of_pixels(portable=True)
    signature = function.input_signature
    others: dict[str, tuple[Any, list[Any]]] = {"Erfc": (_write_erfc, [])}
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=signature, opset=OPSET, custom_op_handlers=others
    )
    for value in (*model.graph.input, *model.graph.output):  # names in the place of the converter's numbers
        for axis, dimension in zip(("n", "height", "width"), value.type.tensor_type.shape.dim, strict=False):
            if not dimension.dim_value:
                dimension.dim_param = axis
    _put_in_order(model.graph)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _write_erfc(graph: Any, node: Any, name: str, _: Any) -> Any:
    """Writes 1 - erf(x) for erfc(x), of which TensorFlow makes exact GELU: ONNX has no such op, nor has tf2onnx."""
    one = graph.make_const(f"{name}_one", np.ones((), np.float32))
    outputs, shape, dtype = node.output[:], graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", node.input)
    return graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=[shape], dtypes=[dtype])


def _put_in_order(graph: Any) -> None:
    """Orders and names nodes and constants by a walk from the outputs to what they need.

    The converter's own order and names come out of sets of strings, so each process would write other bytes.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    results = {value.name for value in graph.output}
    nodes: list[Any] = []
    used: list[Any] = []
    names = {name: name for name in ("", *(value.name for value in graph.input))}  # "": an input left out
    waiting = [(value.name, False) for value in reversed(graph.output)]
    while waiting:
        name, is_ready = waiting.pop()
        if name in names:
            continue
        if name in constants:
            names[name] = f"constant_{len(used)}"
            used.append(constants[name])
        elif is_ready:
            node = makers[name]
            for index, output in enumerate(node.output):
                names[output] = output if output in results else f"{node.op_type}_{len(nodes)}:{index}"
            nodes.append(node)
        else:
            waiting += [(name, True), *((needed, False) for needed in reversed(makers[name].input))]
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for constant in used:
        constant.name = names[constant.name]
    for field, content in ((graph.node, nodes), (graph.initializer, used)):
        copies = copy.deepcopy(content)
        del field[:]
        field.extend(copies)
    del graph.value_info[:]


FORMATS = {
    form.name: form
    for form in (
        Format("saved_model", "saved_model", write_saved_model, ("tensorflow", PILLOW)),
        Format("onnx", "model.onnx", write_onnx, ("onnxruntime", PILLOW), ("tf2onnx", "onnx", "onnxruntime")),
        Format("tflite", "model.tflite", write_tflite, ("ai-edge-litert", PILLOW), ("ai_edge_litert",)),
    )
}
