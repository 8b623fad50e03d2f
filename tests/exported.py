"""Runs what was exported, in the runtime of each format."""

import os

from app.exporting.formats import FORMATS


def run_in_process(form, built, folder, output="probabilities"):
    """Writes a file and returns what runs it: uint8 pixels (n, height, width, 3) to an output, (n, classes) or (n,)."""
    path = folder / FORMATS[form].file
    FORMATS[form].write(built, path)
    if form == "saved_model":
        import tensorflow as tf

        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return lambda pixels: serve(pixels=tf.constant(pixels))[output].numpy()
    if form == "onnx":
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run([output], {"pixels": pixels})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    return lambda pixels: runner(pixels=pixels)[output]
