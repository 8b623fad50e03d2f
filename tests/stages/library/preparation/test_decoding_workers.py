"""Processes that decode strangers' images: what goes beyond their limits ends one image and nothing else."""

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from stages import tfrecord
from stages.library.common.console import UserError
from stages.library.figures import thumbnails
from stages.library.preparation import decoding_process, decoding_workers, normalisation
from stages.library.preparation.decoding_process import Limits
from stages.library.preparation.decoding_workers import BEYOND, Workers
from stages.library.preparation.normalisation import ImageError
from stages.library.sources.contract import SourceImage, Stray
from tests.photos import encode, photo
from tests.zoo import KINDS

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

PATIENCE_SECONDS = 60
GOOD = encode(photo(), "PNG")
# What a good image of a few pixels may take, here.
LITTLE_MEMORY = Limits(memory_bytes=16 << 20, bytes_per_pixel=0)
LITTLE_TIME = Limits(cpu_seconds=0.01, seconds_per_megapixel=0, seconds_per_megabyte=0)


@pytest.fixture(scope="module", params=[True, False], ids=["a copy", "a new process"])
def workers(request):
    """Of both kinds, whatever this process has imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding_workers, "alone", lambda: request.param)
        with Workers(2) as made:
            made.normalise(GOOD)
            yield made


@pytest.fixture(scope="module")
def noise():
    """A good PNG of 16 megapixels that takes seconds to turn into another one, without transparency."""
    pixels = np.zeros((4000, 4000, 4), np.uint8)
    pixels[::2] = np.random.default_rng(0).integers(0, 256, (2000, 4000, 4))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def outcome(function, content):
    try:
        found = function(content)
    except ImageError as error:
        return str(error)
    return found.encoded, found.format, found.height, found.width, found.key, found.values


def pids(session):
    """The processes of a session: the one that makes the workers, which leads it, and those that it made."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            state, _, _, its = path.read_text().rpartition(") ")[2].split()[:4]
            found += [int(path.parent.name)] * (int(its) == session and state != "Z")
    return found


def worker_of(workers):
    (found,) = set(pids(workers._maker.pid)) - {workers._maker.pid}
    return found


def until(condition):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pixels_are_those_of_the_image(workers):
    for content in (GOOD, encode(photo().convert("L"), "JPEG"), encode(photo(), "BMP")):
        expected = thumbnails.decode(normalisation.normalise(content).encoded)
        np.testing.assert_array_equal(workers.pixels(content), expected)
    with pytest.raises(ImageError, match="not an image"):
        workers.pixels(b"text")
    with pytest.raises(ImageError, match=r"more than 0.0001 megapixels"):
        workers.pixels(GOOD, max_pixels=100)


@pytest.mark.slow
def test_large_files_and_large_answers_come_whole(workers, noise):
    for content in (noise, encode(photo(), "PNG") + bytes(3 << 20)):
        assert outcome(workers.normalise, content) == outcome(normalisation.normalise, content)


@pytest.mark.parametrize("limits", [LITTLE_MEMORY, LITTLE_TIME], ids=["memory", "CPU time"])
def test_what_goes_beyond_a_limit_has_one_reason_and_hurts_nobody_else(limits, noise):
    with Workers(1, limits) as few:
        for _ in range(3):
            start = time.monotonic()
            assert outcome(few.normalise, noise) == BEYOND
            assert time.monotonic() - start < PATIENCE_SECONDS / 2
            for _ in range(20):
                assert few.normalise(GOOD).encoded == GOOD
        assert len(pids(few._maker.pid)) == 2


def test_in_a_request_the_one_beyond_the_limits_is_named_and_the_others_are_used(noise):
    contents = [GOOD, b"text", noise, GOOD, noise, GOOD]
    with Workers(1, LITTLE_MEMORY) as few:
        outcomes: list = []
        while len(outcomes) < len(contents):
            outcomes += few.normalise_some(contents[len(outcomes) :])
        reasons = [str(found) if isinstance(found, ImageError) else "" for found in outcomes]
        assert reasons == ["", "not an image", BEYOND, "", BEYOND, ""]


@pytest.mark.parametrize("limit", ["RLIMIT_AS, 8 << 30", "RLIMIT_CPU, 600"])
def test_limits_that_no_process_may_raise_are_kept(limit):
    """Batch systems set them; a process without rights can't go beyond, and one with all rights needn't."""
    code = (
        "import resource, sys; from stages.library.preparation.decoding_workers import Workers\n"
        f"kind, most = resource.{limit}; resource.setrlimit(kind, (most, most))\n"
        "with Workers(1) as workers:\n"
        "    workers.normalise(sys.stdin.buffer.read())\n"
        "    print(resource.prlimit(workers._idle.get().pid, kind)[1] == most)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=GOOD, capture_output=True, check=True)
    assert done.stdout == b"True\n"


def test_an_image_that_takes_longer_than_the_clock_allows_is_given_up():
    with Workers(1, Limits(cpu_seconds=0, seconds_per_megapixel=0, seconds_per_megabyte=0, stall_seconds=1)) as few:
        assert few.normalise(GOOD).encoded == GOOD
        worker = worker_of(few)
        os.kill(worker, signal.SIGSTOP)
        assert outcome(few.normalise, GOOD) == BEYOND
        assert few.normalise(GOOD).encoded == GOOD
        assert not Path(f"/proc/{worker}").exists()


def test_a_worker_that_another_kills_is_no_fault_of_the_image():
    with Workers(1) as few:
        few.normalise(GOOD)
        worker = worker_of(few)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(UserError, match=r"was killed\. Most likely the machine has too little memory"):
            few.normalise(GOOD)
        assert few.normalise(GOOD).encoded == GOOD
        os.kill(few._maker.pid, signal.SIGKILL)
        assert few.normalise(GOOD).encoded == GOOD  # by the worker that is still there
        os.kill(worker_of(few), signal.SIGKILL)
        with pytest.raises(UserError, match="have ended"):
            few.normalise(GOOD)


def test_what_many_threads_get_of_the_zoo_is_the_same_as_in_this_process(workers):
    contents = [content for kind in KINDS for content in (kind.content, *[GOOD] * 6)]
    expected = {content: outcome(normalisation.normalise, content) for content in set(contents)}
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda content: outcome(workers.normalise, content), contents))
    assert found == [expected[content] for content in contents]


def test_a_worker_opens_no_file_and_so_starts_no_program():
    with Workers(1) as few:
        few.normalise(GOOD)
        limits = Path(f"/proc/{worker_of(few)}/limits").read_text()
        for name in ("open files", "core file size", "file size"):
            assert limits.split(f"Max {name}")[1].split()[:2] == ["0", "0"], name


def test_closing_ends_a_worker_in_the_midst_of_its_work(noise):
    few = Workers(1)
    few.normalise(GOOD)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(few.normalise, noise)
        time.sleep(0.1)
        few.close()
        with pytest.raises(UserError):
            running.result(PATIENCE_SECONDS)
    until(lambda: not pids(few._maker.pid))
    with pytest.raises(UserError):
        few.normalise(GOOD)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(number, tmp_path):
    """Whatever ends it, also from a folder that has no package of ours."""
    code = (
        f"import signal, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from stages.library.preparation.decoding_workers import Workers\n"
        "workers = Workers(2); workers.normalise(sys.stdin.buffer.read())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell takes from what it runs beside it
        "print(workers._maker.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(GOOD)
        process.stdin.close()
        maker = int(process.stdout.readline())
        process.send_signal(number)
        process.wait(PATIENCE_SECONDS)
        assert b"decoding" not in process.stderr.read()
    until(lambda: not pids(maker))


def test_nothing_is_started_before_there_is_a_file(monkeypatch):
    with Workers(2) as few:
        assert few._maker.pid == 0
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    array = SourceImage("a/1", "a", None, np.zeros((2, 2), np.uint8))
    assert [found is None for _, found in tfrecord.normalise_all([array, Stray("b", "no class")])] == [False, True]


@pytest.mark.parametrize("copied", [True, False])
def test_a_machine_that_can_start_no_process_is_told(monkeypatch, copied):
    def fork():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(decoding_workers, "alone", lambda: copied)
    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Workers(1) as few, pytest.raises(UserError, match="can be started: No such file or directory"):
        few.normalise(GOOD)


@pytest.mark.slow
def test_a_copy_that_ends_at_once_is_no_error(monkeypatch):
    monkeypatch.setattr(decoding_workers, "alone", lambda: True)
    for _ in range(50):
        with Workers(1) as few:
            few.prepare()
        assert pids(few._maker.pid) == []


def test_batches_keep_the_order_and_hold_little():
    def files():
        for number in range(200):
            content = bytes(2_000_000 if number % 3 == 0 else 9000)
            array = np.zeros((2, 2), np.uint8)
            image = SourceImage(f"{number}", "a", None, array if number % 50 == 9 else content)
            yield Stray(f"{number}", "no class") if number % 50 == 7 else image

    found = list(tfrecord.batches(files()))
    assert [item.name for batch in found for item in batch] == [str(number) for number in range(200)]
    several = [batch for batch in found if len(batch) > 1]
    assert several
    assert max(map(len, several)) <= decoding_process.MAX_FILES
    for batch in several:
        contents = [item.content for item in batch if isinstance(item, SourceImage)]
        assert all(isinstance(content, bytes) for content in contents)
        assert len(contents) == len(batch)
        assert sum(map(len, contents)) <= decoding_process.BATCH_BYTES
