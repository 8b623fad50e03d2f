"""Processes that decode strangers' images: what goes beyond their limits ends one image and nothing else."""

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

from checks.image_builders import encode, photo
from stages import tfrecord
from stages.library.common.console import UserError
from stages.library.figures import thumbnails
from stages.library.preparation import decoding_process, decoding_workers, normalisation
from stages.library.preparation.decoding_process import Limits
from stages.library.preparation.decoding_workers import BEYOND, Workers
from stages.library.preparation.normalisation import ImageError
from stages.library.sources.contract import SourceImage, Stray
from tests import processes
from tests.zoo import KINDS

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

PATIENCE_SECONDS = 60
GOOD = encode(photo(), "PNG")
# What a good image of a few pixels may take, here.
LITTLE_MEMORY = Limits(memory_bytes=16 << 20, bytes_per_pixel=0)
LITTLE_TIME = Limits(cpu_seconds=0.01, seconds_per_megapixel=0, seconds_per_megabyte=0)


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as made:
        yield made


@pytest.fixture
def one():
    """A single worker that has started."""
    with Workers(1) as made:
        made.normalise(GOOD)
        yield made


@pytest.fixture(scope="module")
def noise():
    """A good PNG of 16 megapixels that takes seconds to turn into another one, without transparency."""
    pixels = np.zeros((4000, 4000, 4), np.uint8)
    pixels[::2] = np.random.default_rng(0).integers(0, 256, (2000, 4000, 4))
    return encode(Image.fromarray(pixels), "PNG", compress_level=1)


def outcome(function, content):
    try:
        return function(content)
    except ImageError as error:
        return str(error)


def pid_of(workers):
    (worker,) = workers._started
    return worker.process.pid


def runs(pid):
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return False


def test_pixels_are_those_of_the_image(workers):
    for content in (GOOD, encode(photo().convert("L"), "JPEG"), encode(photo(), "BMP")):
        expected = thumbnails.decode(normalisation.normalise(content).encoded)
        np.testing.assert_array_equal(workers.pixels(content), expected)
    with pytest.raises(ImageError, match="not an image"):
        workers.pixels(b"text")
    with pytest.raises(ImageError, match=r"more than 0.0001 megapixels"):
        workers.pixels(GOOD, max_pixels=100)


def test_what_many_threads_get_of_the_zoo_and_of_large_files_is_the_same_as_in_this_process(workers, noise):
    contents = [content for kind in KINDS for content in (kind.content, *[GOOD] * 6)]
    contents += [noise, GOOD + bytes(3 << 20)]
    expected = {content: outcome(normalisation.normalise, content) for content in set(contents)}
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda content: outcome(workers.normalise, content), contents))
    assert found == [expected[content] for content in contents]


@pytest.mark.parametrize("limits", [LITTLE_MEMORY, LITTLE_TIME], ids=["memory", "CPU time"])
def test_what_goes_beyond_a_limit_has_one_reason_and_hurts_nobody_else(limits, noise):
    with Workers(1, limits) as few:
        for _ in range(3):
            start = time.monotonic()
            assert outcome(few.normalise, noise) == BEYOND
            assert time.monotonic() - start < PATIENCE_SECONDS / 2
            for _ in range(20):
                assert few.normalise(GOOD).encoded == GOOD
        assert runs(pid_of(few))
        # In a request it is named, and the others are used.
        contents = [GOOD, b"text", noise, GOOD, noise, GOOD]
        outcomes: list = []
        while len(outcomes) < len(contents):
            outcomes += few.normalise_some(contents[len(outcomes) :])
        reasons = [str(found) if isinstance(found, ImageError) else "" for found in outcomes]
        assert reasons == ["", "not an image", BEYOND, "", BEYOND, ""]


@pytest.mark.parametrize("limit", ["RLIMIT_AS, 8 << 30", "RLIMIT_CPU, 600"])
def test_limits_that_no_process_may_raise_are_kept(limit):
    """Batch systems set them; a process without rights can't go beyond, and one with all rights needn't."""
    code = (
        "import resource; from stages.library.preparation.decoding_workers import Workers\n"
        f"kind, most = resource.{limit}; resource.setrlimit(kind, (most, most))\n"
        "with Workers(1) as workers:\n"
        f"    workers.normalise({GOOD!r})\n"
        "    print(resource.prlimit(workers._idle.get().process.pid, kind)[1] == most)"
    )
    assert processes.run(sys.executable, "-c", code).stdout == "True\n"


def test_an_image_that_takes_longer_than_the_clock_allows_is_given_up(one, monkeypatch):
    stopped = pid_of(one)
    os.kill(stopped, signal.SIGSTOP)
    monkeypatch.setattr(one, "_limits", Limits(cpu_seconds=0, seconds_per_megapixel=0, stall_seconds=1))
    assert outcome(one.normalise, GOOD) == BEYOND
    assert not runs(stopped)
    monkeypatch.undo()
    assert one.normalise(GOOD).encoded == GOOD


def test_a_worker_opens_no_file_and_that_another_kills_it_is_no_fault_of_the_image(one):
    limits = Path(f"/proc/{pid_of(one)}/limits").read_text()
    for name in ("open files", "core file size", "file size"):
        assert limits.split(f"Max {name}")[1].split()[:2] == ["0", "0"], name
    os.kill(pid_of(one), signal.SIGKILL)
    with pytest.raises(UserError, match=r"was killed\. Most likely the machine has too little memory"):
        one.normalise(GOOD)
    assert one.normalise(GOOD).encoded == GOOD


def test_closing_ends_a_worker_in_the_midst_of_its_work(one, noise):
    pid = pid_of(one)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(one.normalise, noise)
        time.sleep(0.1)
        one.close()
        with pytest.raises(UserError):
            running.result(PATIENCE_SECONDS)
    assert not runs(pid)
    with pytest.raises(UserError, match="have ended"):
        one.normalise(GOOD)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(number, tmp_path):
    """Whatever ends it, also from a folder that has no package of ours."""
    code = (
        f"import signal, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from stages.library.preparation.decoding_workers import Workers\n"
        f"workers = Workers(2); workers.normalise({GOOD!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell takes from what it runs beside it
        "print(*(worker.process.pid for worker in workers._started), flush=True); time.sleep(60)"
    )
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert runs(pid)
        process.send_signal(number)
        assert "decoding" not in process.communicate(timeout=PATIENCE_SECONDS)[1]
    end = time.monotonic() + PATIENCE_SECONDS
    while runs(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_machine_that_can_start_no_process_is_told_once_there_is_a_file(monkeypatch, tmp_path):
    array = SourceImage("a/1", "a", None, np.zeros((2, 2), np.uint8))
    with Workers(1) as few, monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        assert [found is None for _, found in tfrecord.normalise_all([array, Stray("b", "no class")])] == [False, True]
        few.prepare()
        with pytest.raises(UserError, match="can be started: No such file or directory"):
            few.normalise(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decoding_workers, "ROOT", tmp_path)  # it finds no package of ours
    with Workers(1) as few, pytest.raises(UserError, match=r"have ended\. Most likely"):
        few.normalise(GOOD)


def test_batches_keep_the_order_and_hold_little():
    def files():
        for number in range(200):
            content = bytes(2_000_000 if number % 3 == 0 else 9000)
            array = np.zeros((2, 2), np.uint8)
            image = SourceImage(f"{number}", "a", None, array if number % 50 == 9 else content)
            yield Stray(f"{number}", "no class") if number % 50 == 7 else image

    found: Any = list(tfrecord.batches(files()))
    assert [item.name for batch in found for item in batch] == [str(number) for number in range(200)]
    several = [[item.content for item in batch] for batch in found if len(batch) > 1]
    assert 1 < max(map(len, several)) <= decoding_process.MAX_FILES
    assert {type(content) for contents in several for content in contents} == {bytes}
    assert all(sum(map(len, contents)) <= decoding_process.BATCH_BYTES for contents in several)
