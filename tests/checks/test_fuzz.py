"""A short run of checks/fuzz.py over every reader, and that it finds what it looks for."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from checks import fuzz, fuzz_images, fuzz_mutations, fuzz_readers
from stages.library.common.console import UserError

SECONDS = float(os.environ.get("DECANT_FUZZ_SECONDS", "2"))  # of CPU time for each reader


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz_readers.readers())
def test_no_bytes_crash_or_hang_a_reader(name):
    slow = name in ("keras-h5", "network")  # which start a process for each variant
    outcome = fuzz.fuzz(name, SECONDS * 3 if slow else SECONDS, hang_seconds=60)
    assert outcome.failures == {}
    assert outcome.verdicts.total() > (10 if slow else 50)
    assert outcome.verdicts["rejected"] > outcome.verdicts.total() / 10


@pytest.fixture
def use(monkeypatch):
    """Makes a reader the only one, in processes that see what is patched here."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda name: context)
    return lambda read, **more: monkeypatch.setattr(
        fuzz_readers, "readers", lambda: {"one": fuzz_readers.Reader(lambda folder: [b"seed"], read, **more)}
    )


def misbehave(content, folder):
    """Does to each variant of its one seed what a defective reader might."""
    if content == b"seed":
        return
    kind = content[0] if content else 0
    if kind == 0:
        raise UserError("rejected")
    if kind == 1:
        raise KeyError("a defect")
    if kind == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 3:
        time.sleep(3600)
    if kind == 4:
        bytearray(1 << 33)
    if kind == 5:
        with contextlib.suppress(OSError):  # as a reader might that knows another way
            subprocess.run(["true"], check=False)
        raise UserError("rejected")
    with fuzz_images.limited(50 << 20, 0.2, "image"):
        overstep(kind)


def overstep(kind):
    """Does what takes a defective reader over its limits."""
    started = time.process_time()
    if kind == 6:
        raise UserError("rejected after all that") from MemoryError()
    if kind == 7:
        bytearray(90 << 20)
    while kind == 8:
        if time.process_time() - started > 0.3:
            raise UserError("rejected at last")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (1, "crash: KeyError at test_fuzz.py"),
        (2, "crash: the process ended (-9)"),
        (3, "hang"),
        (4, "crash: MemoryError at test_fuzz.py"),
        (5, "crash: program: subprocess.Popen"),
        (6, "crash: memory: more than 50 MiB for rejected image"),
        (7, "crash: memory: more than 50 MiB for accepted image"),
        (8, "hang: more than 0.2 s of CPU time for rejected image"),
    ],
)
def test_each_kind_of_failure_is_told_and_its_bytes_are_kept(tmp_path, monkeypatch, use, kind, expected):
    use(misbehave)
    calls = itertools.count()  # not by chance: a slow machine makes few variants
    monkeypatch.setattr(fuzz_mutations, "variant", lambda *_: bytes([kind if next(calls) == 60 else 0]))
    outcome = fuzz.fuzz("one", 1.0 if kind == 8 else 0.5, hang_seconds=0.5 if kind == 3 else 30, keep=tmp_path / "kept")
    (reason,) = outcome.failures
    assert reason.startswith(expected)
    assert outcome.verdicts["rejected"] > 50
    assert set(outcome.verdicts) == {"rejected", reason}
    kept = [path for path in (tmp_path / "kept").iterdir() if path.name != "reasons.txt"]
    assert [path.read_bytes() for path in kept] == [bytes([kind])]
    assert reason in (tmp_path / "kept" / "reasons.txt").read_text()


def test_hostile_files_are_read_before_any_variant_and_all_of_them(use):
    def reject(content, folder):
        if content in (b"one", b"two"):
            raise KeyError("a defect")

    use(reject, hostile=lambda: [b"one", b"two"])
    assert list(fuzz.fuzz("one", 1e-9).failures.values()) == [2]
