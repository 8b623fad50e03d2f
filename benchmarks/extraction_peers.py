"""timm, ONNX Runtime and OpenVINO from files to features, as a user of PyTorch writes it; see `benchmarks.extraction`.

Runs in an environment of its own (benchmarks/requirements-peers.txt) and imports nothing of the project. The networks
have random weights, which cost the same. What is paid once isn't counted.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import timm
import torch
from torchvision import datasets, transforms

BATCH, WORKERS = 32, 2
NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0", "inception_v3": "tf_inception_v3"}
Way = Callable[[Iterable[torch.Tensor]], np.ndarray]


def main() -> None:
    """Runs one way."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction_peers", usage="%(prog)s WAY [options]", description=__doc__
    )
    parser.add_argument("way", choices=WAYS, metavar="WAY")
    for option in ("--work", "--scratch", "--backbone", "--size"):
        parser.add_argument(option, required=True)
    arguments = parser.parse_args()
    size = int(arguments.size)
    model = timm.create_model(NAMES[arguments.backbone], pretrained=False, num_classes=0).eval()
    steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    with torch.inference_mode():
        features_of = WAYS[arguments.way](model, size)
        features_of([torch.zeros(BATCH, 3, size, size)])
        start = time.perf_counter()
        files = datasets.ImageFolder(Path(arguments.work, "images"), transforms.Compose(steps))
        loader = torch.utils.data.DataLoader(files, batch_size=BATCH, num_workers=WORKERS)
        features = features_of(images for images, _ in loader)
        np.save(Path(arguments.scratch, "features.npy"), features)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "images": len(features)}))


def with_timm(model: torch.nn.Module, size_px: int) -> Way:
    """PyTorch itself."""
    return lambda batches: np.concatenate([model(images).numpy() for images in batches])


def exported(model: torch.nn.Module, size_px: int, folder: str) -> str:
    """Exports the network to ONNX with batches of any size."""
    path = f"{folder}/model.onnx"
    batch = torch.export.Dim("batch", min=1, max=4096)
    example = torch.zeros(2, 3, size_px, size_px)
    torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    return path


def with_onnxruntime(model: torch.nn.Module, size_px: int) -> Way:
    """ONNX Runtime on the CPU, its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(exported(model, size_px, folder), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batches: np.concatenate([session.run(None, {name: images.numpy()})[0] for images in batches])


def with_openvino(model: torch.nn.Module, size_px: int) -> Way:
    """OpenVINO on the CPU, in its throughput mode, with a queue of requests."""
    with tempfile.TemporaryDirectory() as folder:
        converted = openvino.convert_model(exported(model, size_px, folder))
    # float32 as the others; its default is bfloat16 on CPUs that have it.
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", options)

    def features(batches: Iterable[torch.Tensor]) -> np.ndarray:
        found = {}
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, number: found.update({number: request.get_output_tensor(0).data.copy()}))
        for number, images in enumerate(batches):
            queue.start_async([images.numpy()], number)
        queue.wait_all()
        return np.concatenate([found[number] for number in sorted(found)])

    return features


WAYS = {"timm": with_timm, "onnxruntime": with_onnxruntime, "openvino-peer": with_openvino}


if __name__ == "__main__":
    main()
