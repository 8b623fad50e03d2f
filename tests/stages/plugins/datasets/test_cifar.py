"""CIFAR-10 and CIFAR-100, read from small archives in the published layouts, with pickles as Python 2 wrote them."""

import gzip
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.library.common.console import UserError
from stages.library.sources.contract import Place, Stray
from tests.layouts import fetch_and_read, python2_pickle, tar_bytes

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# As published; the members stand in the order of the archive, where the names come late.
CIFAR10 = SimpleNamespace(
    name="cifar10", title="CIFAR-10", archive="cifar-10-python.tar.gz", folder="cifar-10-batches-py",
    files="data_batch_4 readme.html test_batch data_batch_3 batches.meta data_batch_2 data_batch_5 data_batch_1",
    batches=["data_batch_4", "test_batch", "data_batch_3", "data_batch_2", "data_batch_5", "data_batch_1"],
    meta="batches.meta", prefix="", classes=TEN, labels=[6, 9], more={}, strays=[],
)  # fmt: skip
CIFAR100 = SimpleNamespace(
    name="cifar100", title="CIFAR-100", archive="cifar-100-python.tar.gz", folder="cifar-100-python",
    files="file.txt~ train test meta", batches=["train", "test"], meta="meta", prefix="fine_",
    classes=[f"fine {number:02d}" for number in range(100)], labels=[19, 99], more={"coarse_labels": [11] * 2},
    strays=["file.txt~"],
)  # fmt: skip
BOTH = pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100], ids=lambda cifar: cifar.name)


def members(cifar, change=lambda file, batch: batch, size=2):
    """The members of a small archive; `change` returns another content of a pickle."""
    found: list[tuple[str, bytes | None]] = [(cifar.folder, None)]
    rng = np.random.default_rng(0)
    for file in cifar.files.split():
        content: dict[str, Any] = {}
        if file == cifar.meta:
            content = {"num_cases_per_batch": size, f"{cifar.prefix}label_names": cifar.classes, "num_vis": 3072}
        elif file in cifar.batches:
            content = cifar.more | {
                "filenames": [f"bos_taurus_s_{file}_{index}.png" for index in range(size)],
                "batch_label": f"{file} of 5",
                f"{cifar.prefix}labels": (cifar.labels * size)[:size],
                "data": rng.integers(0, 256, (size, 3072), dtype=np.uint8),
            }
        found.append((f"{cifar.folder}/{file}", python2_pickle(change(file, content)) if content else b"no pickle"))
    return found


def archive(tmp_path, found):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(found)))
    return path


def read(cifar, tmp_path, found):
    """The images and the strays of an archive of these members."""
    everything = fetch_and_read(cifar.name, archive(tmp_path, found), tmp_path)
    strays = [each for each in everything if isinstance(each, Stray)]
    return [each for each in everything if each not in strays], strays


@BOTH
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_is_read_as_published_and_what_else_is_there_is_named(cifar, tmp_path, order):
    batches: dict[str, Any] = {}

    def keep(file, batch):
        if "data" in batch:
            batches[file] = batch["data"] = np.asarray(batch["data"], order=order)
        return batch

    extra = [f"._{cifar.batches[-1]}", cifar.batches[-1]]  # the latter a second time
    more = [(f"{cifar.folder}/{file}", b"x") for file in extra]
    found, strays = read(cifar, tmp_path, [*members(cifar, keep), *more])
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [cifar.archive]
    reason = f"not a batch of {cifar.title}"
    assert strays == [Stray(f"{cifar.folder}/{file}", reason) for file in (*cifar.strays, *extra)]
    names = [f"{file}/bos_taurus_s_{file}_{index}.png" for file in cifar.batches for index in range(2)]
    assert [each.name for each in found] == names
    assert [each.place for each in found] == [Place(file, index, 2) for file in cifar.batches for index in range(2)]
    assert [each.text for each in found] == [cifar.classes[label] for label in cifar.labels] * len(cifar.batches)
    assert [each.split for each in found] == ["test" if name.startswith("test") else "train" for name in names]
    channels = batches[cifar.batches[0]][1].reshape(3, 32, 32)
    np.testing.assert_array_equal(found[1].content, np.stack(channels, axis=-1))


@BOTH
@pytest.mark.parametrize("names", [None, ["same.png", "same.png"], ["one.png"]])
def test_without_usable_file_names_images_are_numbered(cifar, tmp_path, names):
    def change(file, batch):
        if batch.pop("filenames", None) and names:
            batch["filenames"] = names
        return batch

    found, _ = read(cifar, tmp_path, members(cifar, change))
    assert [each.name for each in found[:2]] == [f"{cifar.batches[0]}/00000", f"{cifar.batches[0]}/00001"]


@BOTH
@pytest.mark.parametrize("victim", ["meta", "test"])
def test_a_pickle_that_calls_something_is_rejected(cifar, tmp_path, monkeypatch, victim):
    monkeypatch.chdir(tmp_path)
    call = b"cos\nsystem\n(S'touch PROOF'\ntR."
    found = [(name, call if victim in name.split("/")[-1] else content) for name, content in members(cifar)]
    with pytest.raises(UserError, match=rf"{victim}\S* is rejected: its pickle calls os.system"):
        read(cifar, tmp_path, found)
    assert not (tmp_path / "PROOF").exists()


@BOTH
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data", np.zeros((2, 3071), np.uint8), r"`data` must be uint8 \(n, 3072\). Received: \(2, 3071\)"),
        ("data", np.zeros((2, 3072), np.int32), "`data` must be uint8"),
        ("data", [1, 2], "`data` must be uint8"),
        ("PREFIXlabels", [1], "`PREFIXlabels` must be a list of 2 numbers"),
        ("PREFIXlabels", [1, -1], "`PREFIXlabels` must be whole numbers from 0 to LAST"),
        ("PREFIXlabels", [1, 100], "`PREFIXlabels` must be whole numbers from 0 to LAST"),
        ("PREFIXlabels", ["1", "2"], "`PREFIXlabels` must be whole numbers from 0 to LAST"),
        ("PREFIXlabels", None, "FOLDER/.* lacks the entry `PREFIXlabels`"),
        ("PREFIXlabel_names", ["cat"], "`PREFIXlabel_names` must be a list of MANY names"),
    ],
)
def test_batches_must_be_what_they_claim(cifar, tmp_path, key, value, reason):
    many = len(cifar.classes)
    for word, meant in {"PREFIX": cifar.prefix, "FOLDER": cifar.folder, "MANY": many, "LAST": many - 1}.items():
        key, reason = key.replace(word, str(meant)), reason.replace(word, str(meant))

    def change(file, batch):
        other = {} if value is None else {key: value}
        return {name: kept for name, kept in batch.items() if name != key} | (other if key in batch else {})

    with pytest.raises(UserError, match=reason):
        read(cifar, tmp_path, members(cifar, change))


@BOTH
def test_a_missing_file_is_a_users_error(cifar, tmp_path):
    for file in (*cifar.batches, cifar.meta):
        (tmp_path / file).mkdir()
        found = [member for member in members(cifar) if member[0] != f"{cifar.folder}/{file}"]
        with pytest.raises(UserError, match=f"lacks {cifar.folder}/{file}"):
            read(cifar, tmp_path / file, found)
