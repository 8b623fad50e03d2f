"""Weight files that are damaged or hostile: refused in one line; what the fuzzer found."""

import pytest

from benchmarks import fuzz_readers, fuzz_weights
from stages.library.console import UserError


@pytest.fixture(scope="module")
def readers():
    return fuzz_readers.readers()


def refused(read, content, folder):
    """Tells whether the bytes are refused; anything but that and acceptance is an error."""
    try:
        read(content, folder)
    except UserError as error:
        return len(str(error).splitlines()) == 1
    return False


def test_each_flipped_byte_of_a_checkpoint_is_refused_or_read(tmp_path, readers):
    (tmp_path / "seeds").mkdir()
    for whole in readers["slim"].seeds(tmp_path / "seeds"):
        found = []
        for position in range(0, len(whole), 5):
            damaged = bytearray(whole)
            damaged[position] ^= 0xFF
            found.append(refused(fuzz_weights.read_slim, bytes(damaged), tmp_path))
        assert sum(found) > len(found) / 2


def test_a_damaged_directory_of_an_h5_file_is_refused(tmp_path, readers):
    (whole,) = readers["keras-h5"].seeds(tmp_path)
    assert whole.count(b"SNOD") > 1
    assert not refused(fuzz_weights.read_keras, whole, tmp_path)
    assert refused(fuzz_weights.read_keras, whole.replace(b"SNOD", b"SNOT"), tmp_path)


@pytest.mark.parametrize("size", [0, 8, 15, 2**64 - 1])
def test_a_heap_in_which_hdf5_would_go_round_for_ever_is_refused(tmp_path, readers, size):
    (whole,) = readers["keras-h5"].seeds(tmp_path)
    heap = whole.index(b"GCOL")
    free = whole.index(b"b/kernel" + bytes(8), heap) + 8  # the object without a number, behind the last name
    damaged = bytearray(whole)
    damaged[free + 8 : free + 16] = size.to_bytes(8, "little")
    with pytest.raises(UserError, match=r"with its top: a heap is damaged$"):
        fuzz_weights.read_keras(bytes(damaged), tmp_path)
    assert refused(fuzz_weights.read_keras, whole[: heap + 9], tmp_path)
    assert refused(fuzz_weights.read_keras, b"", tmp_path)
