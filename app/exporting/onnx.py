"""ONNX, by tf2onnx: for ONNX Runtime, OpenVINO, TensorRT, browsers and most languages."""

from pathlib import Path
from typing import Any

from app.exporting.graph import Graph

PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
FILE = "model.onnx"
RUNS_WITH = ("onnxruntime", "pillow")

OPSET = 18  # of December 2022: the runtimes of the years since know it
AXES = ("n", "height", "width")


def write(graph: Graph, path: Path) -> None:
    """Writes one file, the same bytes for the same model."""
    import tf2onnx

    function = graph.of_pixels(portable=True)
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    _name_axes(model.graph)
    _put_in_order(model.graph)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _name_axes(graph: Any) -> None:
    """Gives the free axes of input and output their names, in the place of the converter's numbers."""
    for value in (*graph.input, *graph.output):
        for axis, dimension in zip(AXES, value.type.tensor_type.shape.dim, strict=False):
            if not dimension.dim_value:
                dimension.dim_param = axis


def _put_in_order(graph: Any) -> None:
    """Orders and names nodes and constants by a walk from the outputs to what they need.

    The converter's own order and names come out of sets of strings, so each process would write other bytes.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    given = {value.name for value in graph.input}
    results = {value.name for value in graph.output}
    nodes: list[Any] = []
    used: list[Any] = []
    names: dict[str, str] = {}
    waiting = [(value.name, False) for value in reversed(graph.output)]
    while waiting:
        name, is_ready = waiting.pop()
        if not name or name in names or name in given:
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
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for constant in used:
        constant.name = names[constant.name]
    for field, content in ((graph.node, nodes), (graph.initializer, used)):
        copies = [type(item).FromString(item.SerializeToString()) for item in content]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
