"""CIFAR-100: 60,000 RGB images of 32 x 32 pixels in 100 fine classes, 10,000 of them the official test split.

Its 20 coarse classes are not used; an editor's backup in the archive, file.txt~, is a stray.
"""

from stages.library.common.downloads import RemoteFile
from stages.library.sources.cifar_archive import Cifar

DATASET = Cifar(
    archive=RemoteFile(
        filename="cifar-100-python.tar.gz",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
        size_bytes=169001437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
    title="CIFAR-100",
    folder="cifar-100-python",
    splits={"train": "train", "test": "test"},
    meta="meta",
    num_classes=100,
    prefix="fine_",
)
fetch, read = DATASET.fetch, DATASET.read
