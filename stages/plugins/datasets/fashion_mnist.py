"""Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in 10 classes, 10,000 of them the official test split.

H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
2017, arXiv:1708.07747. Files are in the IDX format (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import hashlib
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile
from stages.library.sources.contract import Params, Place, SourceImage, Stray

# Of the package dataset-fashion-mnist, which compresses the files anew.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MIRRORS = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
# Bytes and md5 of the files.
FILES = {
    "train-images-idx3-ubyte.gz": (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1-ubyte.gz": (29515, "25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3-ubyte.gz": (4422102, "bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1-ubyte.gz": (5148, "bb300cfdad3c16e7a12a480ee83cd310"),
}
CONTENT_SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = ["t_shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"]


def fetch(params: Params, raw: Path, cache: Path) -> str:
    """Takes each file from the Debian package where that is installed, else from the cache or a mirror."""
    if params.archive is not None:
        raise UserError(f"`dataset.archive` must be null for fashion_mnist: it is four files, to be put into {cache}")
    installed = 0
    for name, (size_bytes, md5) in FILES.items():
        if _content_sha256(DEBIAN / name) == CONTENT_SHA256[name]:
            shutil.copyfile(DEBIAN / name, raw / name)
            installed += 1
        else:
            urls = tuple(mirror + name for mirror in MIRRORS)
            remedy = "or install the Debian package dataset-fashion-mnist"
            downloads.link(downloads.obtain(RemoteFile(name, urls, size_bytes, md5=md5), cache, remedy), raw / name)
    return f"{installed} files of the Debian package, {len(FILES) - installed} of the download cache"


def read(params: Params, raw: Path) -> Iterator[SourceImage | Stray]:
    """Yields the images; their names are split and rank, as in "test/00000"."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(raw / f"{prefix}-images-idx3-ubyte.gz", 3)
        labels = read_idx(raw / f"{prefix}-labels-idx1-ubyte.gz", 1)
        if len(images) != len(labels) or labels.max(initial=0) >= len(CLASSES):
            raise UserError(f"{raw}: {prefix} has {len(images)} images and {len(labels)} labels up to {labels.max()}")
        for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            yield SourceImage(f"{split}/{index:05d}", CLASSES[label], split, pixels, Place(split, index, len(labels)))


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Returns the uint8 array, of the given number of dimensions, in a gzipped IDX file, or raises UserError."""
    try:
        with gzip.open(path) as file:
            zero, kind, dimensions, *shape = struct.unpack(f">HBB{rank}I", file.read(4 + 4 * rank))
            size_bytes = int(np.prod(shape, dtype=object))
            if (zero, kind, dimensions) != (0, 0x08, rank) or max(size_bytes, *shape) > 1 << 28:
                raise UserError(f"{path} is no IDX file of bytes in {rank} dimensions: magic {zero, kind, dimensions}")
            content = file.read(size_bytes + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"{path} is damaged ({error}). Fetch it again: dvc repro -f fetch") from error
    if len(content) != size_bytes:
        raise UserError(f"{path} must hold {size_bytes} bytes, by its header. Received: {len(content)} or more")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _content_sha256(path: Path) -> str | None:
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error):
        return None
