"""Shards with their manifest, as the tfrecord stage writes them."""

from hypothesis import strategies as st

from stages.library.preparation import normalisation
from stages.library.records import manifest, tfrecord

RECORDS = st.builds(
    tfrecord.Record,
    key=st.text("0123456789abcdef", min_size=64, max_size=64),
    encoded=st.binary(max_size=200),
    format=st.sampled_from(["jpeg", "png"]),
    height=st.integers(1, 2**31),
    width=st.integers(1, 2**31),
    label=st.integers(0, 2**31),
    text=st.text(max_size=20),
    filename=st.text(max_size=40).map(lambda text: text + "\udce9"),
)


def record(image, label=0, text="x", name="x.png"):
    """Returns an array of pixels, or the bytes of a file, as a record."""
    found = normalisation.normalise(image)
    return tfrecord.Record(found.key, found.encoded, found.format, found.height, found.width, label, text, name)


def write(folder, splits):
    """Writes records, {split: a list for each shard}, and returns the shards' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with manifest.writer(folder) as write_shard:
        for split, shards in splits.items():
            for path, records in zip(tfrecord.shard_paths(folder, split, len(shards)), shards, strict=True):
                write_shard(path, records)
                paths.append(path)
    return paths


def read(folder):
    """The records of each split of a folder that tfrecord has written."""
    return {
        split: [record for path in tfrecord.find_shards(folder, split) for record in tfrecord.read_shard(path)]
        for split in tfrecord.SPLITS
    }
