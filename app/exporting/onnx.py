"""ONNX, by tf2onnx: for ONNX Runtime, OpenVINO, TensorRT, browsers and most languages."""

from pathlib import Path
from typing import Any

from app.exporting.graph import Graph

PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
FILE = "model.onnx"
RUNS_WITH = ("onnxruntime", "pillow")

OPSET = 18  # of March 2023: runtimes of the last years know it
AXES = ("n", "height", "width")


def write(graph: Graph, path: Path) -> None:
    """Writes one file."""
    import tf2onnx

    function = graph.of_pixels(portable=True)
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    _name_axes(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _name_axes(model: Any) -> None:
    """Gives the free axes of input and output their names, in the place of the converter's numbers."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, dimension in zip(AXES, value.type.tensor_type.shape.dim, strict=False):
            if dimension.dim_param or not dimension.dim_value:
                dimension.dim_param = axis
