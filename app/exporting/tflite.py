"""TFLite, now LiteRT: for Android, iOS and small Linux machines. Built-in ops only, so every runtime runs it."""

from pathlib import Path

from app.exporting.graph import Graph

PACKAGES = ("ai_edge_litert",)
FILE = "model.tflite"
RUNS_WITH = ("ai-edge-litert", "pillow")


def write(graph: Graph, path: Path) -> None:
    """Writes one file."""
    import tensorflow as tf

    module = tf.Module()
    module.pixels = graph.of_pixels(portable=True)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.pixels.get_concrete_function()], module)
    path.write_bytes(converter.convert())
