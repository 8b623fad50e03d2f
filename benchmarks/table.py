"""Measures what a table of labels costs: seconds and peak memory of reading, checking and splitting its rows.

Names, labels, splits and the listing of the files are made up; there are no images.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.shared import parser
from stages.library.common import hashing, stratification
from stages.library.sources import label_rows, label_tables

CLASSES = 1000
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Runs the benchmark."""
    options = parser("table", __doc__)
    options.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="of the table")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labels.csv")
        maker = multiprocessing.get_context("spawn").Process(target=write, args=(path, arguments.rows))
        maker.start()  # of its own, for its memory is not measured
        maker.join()
        names = pa.ipc.open_file(path.with_suffix(".arrow")).read_all()["name"]
        print(f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB, and all names in memory: {peak():.2f} GB")
        started = time.monotonic()
        table = label_tables.read(path, {})
        print(f"read: {cost(started)}")
        labels = label_rows.check(table, names, {}, ["/data/images"])
        print(f"and checked: {cost(started)}, {len(labels.wrong):,} wrong rows")
        del table, names
        shares = np.bincount(split(labels))
        print(f"and split: {cost(started)}, {', '.join(f'{count:,}' for count in shares)} rows")


def write(path: Path, rows: int) -> None:
    """Writes a table, in random order and with one wrong row in 100,000, and beside it the names of all files."""
    names = pa.array([f"images/{number // 1000:06d}/{number:09d}.jpg" for number in range(rows)], pa.string())
    rng = np.random.default_rng(0)
    columns = {
        "filename": names.take(pa.array(rng.permutation(rows))),
        "label": pa.array([f"class {number}" for number in range(CLASSES)]).take(
            pa.array(rng.integers(0, CLASSES, rows))
        ),
        "split": pa.array(["train", "valid", "test"]).take(pa.array(rng.choice(3, rows, p=[0.8, 0.1, 0.1]))),
        "group": pa.array([f"patient {number}" for number in range(rows // 20 + 1)]).take(
            pa.array(np.arange(rows) // 20)
        ),
    }
    wrong = pa.array(np.arange(rows) % 100_000 == 7)
    columns["label"] = pa.compute.if_else(wrong, None, columns["label"])
    pa.csv.write_csv(pa.table(columns), path)
    listing = pa.table({"name": names})
    with pa.ipc.new_file(path.with_suffix(".arrow"), listing.schema) as file:
        file.write_table(listing)


def split(labels: label_rows.Labels) -> np.ndarray:
    """Returns the share of each row, by class and with groups on one side; numbers of contents are made up."""
    groups = labels.groups.dictionary_encode().unify_dictionaries().combine_chunks()
    numbers = np.array(list(map(hashing.number, groups.dictionary.to_pylist())), np.uint64)
    contents = hashing.shuffled(np.arange(len(labels.files), dtype=np.uint64), "contents", 0)
    units = stratification.units(contents, numbers[groups.indices.to_numpy()])
    return stratification.assign(units, labels.labels.astype(np.int64), (0.2, 0.8), "split", 0)


def cost(started: float) -> str:
    """Returns the seconds since then, and the most memory of this process."""
    return f"{time.monotonic() - started:.1f} s, {peak():.2f} GB"


def peak() -> float:
    """Returns the most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT / 1e9


if __name__ == "__main__":
    main()
