"""CIFAR-10: 60,000 RGB images of 32 x 32 pixels in 10 classes, 10,000 of them the official test split."""

from stages.library.common.downloads import RemoteFile
from stages.library.sources.cifar_archive import Cifar

DATASET = Cifar(
    archive=RemoteFile(
        filename="cifar-10-python.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        size_bytes=170498071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    title="CIFAR-10",
    folder="cifar-10-batches-py",
    splits={f"data_batch_{number}": "train" for number in range(1, 6)} | {"test_batch": "test"},
    meta="batches.meta",
    num_classes=10,
    no_images=("readme.html",),
)
fetch, read = DATASET.fetch, DATASET.read
