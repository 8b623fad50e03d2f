"""Shards with their manifest, as the tfrecord stage writes them."""

from stages.library.preparation import normalisation
from stages.library.records import manifest, tfrecord


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
