"""SavedModel: TensorFlow's own format, for Python, C++, Java, Go and TensorFlow Serving.

Two signatures share one network: "serving_default" takes pixels, "encoded" JPEG or PNG files.
"""

from pathlib import Path

from app.exporting.graph import Graph

PACKAGES: tuple[str, ...] = ()
FILE = "saved_model"
RUNS_WITH = ("tensorflow",)

FINGERPRINT = "fingerprint.pb"


def write(graph: Graph, path: Path) -> None:
    """Writes a folder, the same bytes for the same model."""
    import tensorflow as tf
    from tensorflow.core.protobuf import fingerprint_pb2

    module = tf.Module()
    module.pixels = graph.of_pixels(portable=False)
    module.encoded = graph.of_encoded()
    signatures = {"serving_default": module.pixels, "encoded": module.encoded}
    tf.saved_model.save(module, str(path), signatures=signatures)
    fingerprint = fingerprint_pb2.FingerprintDef.FromString((path / FINGERPRINT).read_bytes())
    fingerprint.ClearField("uuid")  # drawn at random; the hashes beside it stay
    (path / FINGERPRINT).write_bytes(fingerprint.SerializeToString(deterministic=True))
