"""A table of labels and its images."""

from stages.library.sources.contract import SourceImage, Stray
from stages.plugins.datasets import table
from tests.layouts import params

FILES = ["a/1.jpg", "a/2.png", "b/3.JPG", "b/4.jpg", "b/4.png", "5.jpg", "notes.txt"]


def labelled(tmp_path):
    """Writes a table, makes the files, and returns the images by name and the strays as (row, name, reason)."""

    def make(text, suffix=".csv", files=FILES, folder="images", **columns):
        for name in files:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"text of " + name.encode())
        path = tmp_path / f"labels{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        chosen = params("table", folder=tmp_path / folder, table=path, columns=columns)
        found = list(table.read(chosen, tmp_path))
        images = {each.name: each for each in found if isinstance(each, SourceImage)}
        assert all(image.content == b"text of " + name.encode() for name, image in images.items())
        return images, [(each.row, each.name, each.reason) for each in found if isinstance(each, Stray)]

    return make
