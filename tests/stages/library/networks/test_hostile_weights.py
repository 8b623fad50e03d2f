"""Weight files that are damaged or hostile: rejected in one line; what the fuzzer found."""

import h5py
import pytest

from checks import fuzz_readers
from stages.library.common.console import UserError
from stages.library.networks import hdf5


@pytest.fixture(scope="module")
def readers():
    return fuzz_readers.readers()


def rejected(read, content, folder):
    """Tells whether the bytes are rejected; anything but that and acceptance is an error."""
    try:
        read(content, folder)
    except UserError as error:
        return len(str(error).splitlines()) == 1
    return False


def test_each_flipped_byte_of_a_checkpoint_is_rejected_or_read(tmp_path, readers):
    (tmp_path / "seeds").mkdir()
    for whole in readers["slim"].seeds(tmp_path / "seeds"):
        found = []
        for at in range(0, len(whole), 5):
            damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
            found.append(rejected(readers["slim"].read, damaged, tmp_path))
        assert sum(found) > len(found) / 2


def test_a_damaged_directory_of_an_h5_file_is_rejected(tmp_path, readers):
    whole, *others = readers["keras-h5"].seeds(tmp_path)
    assert whole.count(b"SNOD") > 1
    for content in (whole, *others):
        assert not rejected(readers["keras-h5"].read, content, tmp_path)
    assert rejected(readers["keras-h5"].read, whole.replace(b"SNOD", b"SNOT"), tmp_path)


NO_END = "HDF5 came to no end in 10 s of CPU time"


@pytest.mark.parametrize("reason", [pytest.param(NO_END, marks=pytest.mark.slow), "HDF5 ended with signal 11"])
def test_what_hdf5_does_not_survive_is_rejected(tmp_path, readers, reason):
    whole, *_ = readers["keras-h5"].seeds(tmp_path)
    damaged = bytearray(whole)
    if reason == NO_END:  # a heap whose free space, the object without a number, has no size
        free = whole.index(b"b/kernel" + bytes(8), whole.index(b"GCOL")) + 8
        damaged[free + 8 : free + 16] = bytes(8)
    else:  # an attribute's type: of variable length, text
        damaged[whole.index(b"\x19\x01\0\0\x10") + 1] ^= 0xFF
    with pytest.raises(UserError, match=rf"with its top or without: it is damaged, {reason}$"):
        readers["keras-h5"].read(bytes(damaged), tmp_path)


def test_an_h5_file_that_asks_for_much_memory_is_rejected(tmp_path):
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("kernel", (1 << 30,), "f4", chunks=True)  # takes no room in the file
    with pytest.raises(ValueError, match=r"an array has 4294967296 bytes$"):
        hdf5.check(tmp_path / "large.h5")
    (tmp_path / "empty.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="file signature not found"):
        hdf5.check(tmp_path / "empty.h5")
