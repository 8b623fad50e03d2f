"""CIFAR-10 and CIFAR-100, read from small archives in the published layouts, with pickles as Python 2 wrote them."""

import gzip
import json
import pickle
from typing import Any

import numpy as np
import pytest

from stages.library.common.artifacts import sha256_file
from stages.library.common.console import UserError
from stages.library.records import tfrecord
from stages.library.sources.contract import Place, Stray
from tests.layouts import fetch_and_read, python2_pickle, tar_bytes

CLASSES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "cifar100": [f"fine {number:02d}" for number in range(100)],
}
LABELS = {"cifar10": [6, 9], "cifar100": [19, 99]}
LABELS_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}
NAMES_KEY = {"cifar10": "label_names", "cifar100": "fine_label_names"}
FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
ARCHIVE = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}
META = {"cifar10": "batches.meta", "cifar100": "meta"}
# In the order of the published archives: the names come late.
FILES = {
    "cifar10": "data_batch_4 readme.html test_batch data_batch_3 batches.meta data_batch_2 data_batch_5 data_batch_1",
    "cifar100": "file.txt~ train test meta",
}
STRAYS = {"cifar10": [], "cifar100": [Stray("cifar-100-python/file.txt~", "not a batch of CIFAR-100")]}
BOTH = pytest.mark.parametrize("name", ["cifar10", "cifar100"])


def cifar(name, change=lambda file, batch: batch, size=2, write=python2_pickle):
    """The members of a small archive; `change` returns another content of a pickle."""
    members: list[tuple[str, bytes | None]] = [(FOLDER[name], None)]
    rng = np.random.default_rng(0)
    for file in FILES[name].split():
        if file in ("readme.html", "file.txt~"):
            members.append((f"{FOLDER[name]}/{file}", b"no pickle"))
            continue
        content: dict[str, Any]
        if file == META[name]:
            content = {"num_cases_per_batch": size, NAMES_KEY[name]: CLASSES[name], "num_vis": 3072}
            if name == "cifar100":
                content["coarse_label_names"] = ["fish"] * 20
        else:
            names = ["bos_taurus_s_000507.png", "camion_s_000148.png"]
            content = {
                "filenames": names if size == 2 else [f"{file}_{index}.png" for index in range(size)],
                "batch_label": f"{file} of 5",
                LABELS_KEY[name]: (LABELS[name] * size)[:size],
                "data": rng.integers(0, 256, (size, 3072), dtype=np.uint8),
            }
            if name == "cifar100":
                content["coarse_labels"] = [11] * size
        members.append((f"{FOLDER[name]}/{file}", write(change(file, content))))
    return members


def archive(tmp_path, members):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(members)))
    return path


def read(name, tmp_path, members):
    return fetch_and_read(name, archive(tmp_path, members), tmp_path)


def images(found):
    return [each for each in found if not isinstance(each, Stray)]


@BOTH
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_is_read_as_published(name, tmp_path, order):
    batches: dict[str, Any] = {}

    def keep(file, batch):
        if "data" in batch:
            batch["data"] = np.asarray(batch["data"], order=order)
        return batches.setdefault(file, batch)

    everything = read(name, tmp_path, cifar(name, keep))
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [ARCHIVE[name]]
    assert [each for each in everything if isinstance(each, Stray)] == STRAYS[name]
    found = images(everything)
    files = [file for file in batches if file != META[name]]
    assert [each.name.split("/")[0] for each in found] == [file for file in files for _ in range(2)]
    assert [each.place for each in found[-2:]] == [Place(files[-1], 0, 2), Place(files[-1], 1, 2)]
    assert [each.text for each in found] == [CLASSES[name][label] for label in LABELS[name]] * len(files)
    assert {each.name.split("/")[0] for each in found if each.split == "test"} == {
        file for file in files if file.startswith("test")
    }
    assert {each.split for each in found} == {"train", "test"}
    image = next(each for each in found if each.name == f"{files[0]}/camion_s_000148.png")
    row = batches[files[0]]["data"][1]
    assert image.content.shape == (32, 32, 3)
    for channel in range(3):
        for y, x in ((0, 0), (0, 31), (7, 3), (31, 31)):
            assert image.content[y, x, channel] == row[channel * 1024 + y * 32 + x]


@BOTH
@pytest.mark.parametrize("names", [None, ["same.png", "same.png"], ["one.png"]])
def test_without_usable_file_names_images_are_numbered(name, tmp_path, names):
    def change(file, batch):
        if file != META[name]:
            del batch["filenames"]
            if names:
                batch["filenames"] = names
        return batch

    first = FILES[name].split()[0 if name == "cifar10" else 1]
    found = images(read(name, tmp_path, cifar(name, change)))
    assert [each.name for each in found][:2] == [f"{first}/00000", f"{first}/00001"]


@BOTH
def test_pickles_of_python_3_are_read_too(name, tmp_path):
    found = images(read(name, tmp_path, cifar(name, write=lambda batch: pickle.dumps(batch, 4))))
    assert found[0].text == CLASSES[name][LABELS[name][0]]


@BOTH
def test_strays_are_named(name, tmp_path):
    batch = next(file for file in FILES[name].split() if file.startswith("test"))
    extra = [(f"{FOLDER[name]}/._{batch}", b"x"), (f"{FOLDER[name]}/{batch}", b"a second one")]
    found = read(name, tmp_path, [*cifar(name), *extra])
    reason = f"not a batch of {name.upper().replace('CIFAR', 'CIFAR-')}"
    assert [each for each in found if isinstance(each, Stray)] == [
        *STRAYS[name],
        *(Stray(member, reason) for member, _ in extra),
    ]


@BOTH
@pytest.mark.parametrize("victim", ["meta", "test"])
def test_a_pickle_that_calls_something_is_rejected(name, tmp_path, monkeypatch, victim):
    monkeypatch.chdir(tmp_path)
    opcodes = b"cos\nsystem\n(S'touch PROOF'\ntR."
    members = [(member, opcodes if victim in member.split("/")[-1] else content) for member, content in cifar(name)]
    with pytest.raises(UserError, match=rf"{victim}\S* is rejected: its pickle calls os.system"):
        read(name, tmp_path, members)
    assert not (tmp_path / "PROOF").exists()


@BOTH
@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("data", np.zeros((2, 3071), np.uint8), r"`data` must be uint8 \(n, 3072\). Received: \(2, 3071\)"),
        ("data", np.zeros((2, 3072), np.int32), "`data` must be uint8"),
        ("data", [1, 2], "`data` must be uint8"),
        (LABELS_KEY, [1], "`LABELS` must be a list of 2 numbers"),
        (LABELS_KEY, [1, "MANY"], "`LABELS` must be whole numbers from 0 to LAST"),
        (LABELS_KEY, ["1", "2"], "`LABELS` must be whole numbers from 0 to LAST"),
        (NAMES_KEY, ["cat"], "`NAMES` must be a list of MANY names"),
    ],
)
def test_batches_must_be_what_they_claim(name, tmp_path, key, value, reason):
    key = key if isinstance(key, str) else key[name]
    many = len(CLASSES[name])
    value = [many if each == "MANY" else each for each in value] if isinstance(value, list) else value
    for word, meant in {"LABELS": LABELS_KEY[name], "NAMES": NAMES_KEY[name], "MANY": many, "LAST": many - 1}.items():
        reason = reason.replace(word, str(meant))

    def change(file, batch):
        return batch | {key: value} if key in batch else batch

    with pytest.raises(UserError, match=reason):
        read(name, tmp_path, cifar(name, change))


def test_labels_of_the_other_cifar_are_missed_by_name(tmp_path):
    def change(file, batch):
        return {("labels" if key == "fine_labels" else key): value for key, value in batch.items()}

    with pytest.raises(UserError, match="cifar-100-python/train lacks the entry `fine_labels`"):
        read("cifar100", tmp_path, cifar("cifar100", change))


@BOTH
def test_a_missing_file_is_a_users_error(name, tmp_path):
    for number, file in enumerate(FILES[name].split()):
        if file in ("readme.html", "file.txt~"):
            continue
        (tmp_path / str(number)).mkdir()
        members = [member for member in cifar(name) if member[0] != f"{FOLDER[name]}/{file}"]
        with pytest.raises(UserError, match=f"lacks {FOLDER[name]}/{file}"):
            read(name, tmp_path / str(number), members)


def run(name, tmp_path, write_params, run_stage, members, **changes):
    path = archive(tmp_path, members)
    local = {"dataset__name": name, "dataset__archive": str(path), "dataset__archive_sha256": sha256_file(path)}
    params = write_params(**local, **changes)
    run_stage("fetch", "--params", params, "--out", tmp_path / "raw")
    out = tmp_path / "out"
    run_stage("tfrecord", "--params", params, "--raw", tmp_path / "raw", "--out", out, "--examples", tmp_path / "e.png")
    return json.loads((out / "dataset.json").read_text()), out


@BOTH
def test_the_published_split_validates_on_the_tail_of_each_batch(name, tmp_path, write_params, run_stage):
    """The last 10% of each of the training batches, and the official test images."""
    changes = {"split__method": "tail", "split__validation": 0.1}
    content, out = run(name, tmp_path, write_params, run_stage, cifar(name, size=20), **changes)
    batches = {"cifar10": 5, "cifar100": 1}[name]
    found = {
        split: sorted(
            record.filename for path in tfrecord.find_shards(out, split) for record in tfrecord.read_shard(path)
        )
        for split in tfrecord.SPLITS
    }
    assert {split: len(names) for split, names in found.items()} == {
        "train": 18 * batches,
        "validation": 2 * batches,
        "test": 20,
    }
    assert {name.rsplit("_", 1)[1] for name in found["validation"]} == {"18.png", "19.png"}
    assert {sum(counted.values()) for counted in content["files"].values()} == {20}
    assert content["rejected"] == len(STRAYS[name])
