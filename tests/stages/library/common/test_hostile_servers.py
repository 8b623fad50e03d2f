"""Servers that reset, lie, redirect in circles or swap the file: one line at the end, and never another's bytes."""

import time

import pytest

from app import inputs
from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RetryPolicy, obtain
from stages.library.preparation import normalisation
from tests.misbehaving import (
    CONTENT,
    DRIPS,
    SHA256,
    breaks_off,
    endless_head,
    garbage,
    other_version,
    paced,
    redirects,
    resets,
    whole,
)

QUICK = RetryPolicy(attempts=3, backoff_seconds=0.01, timeout_seconds=(2, 0.5))


def loops(seconds):
    """Redirects every request to itself, after a while."""

    def behaviour(handler):
        time.sleep(seconds)
        redirects(handler.path + "x")(handler)

    return behaviour


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (resets, "the connection broke off"),
        (garbage, "no connection"),
        (endless_head, "no connection"),
        (loops(0), "TooManyRedirects"),
        (redirects("file:///etc/passwd"), "InvalidSchema"),
        (redirects("gopher://127.0.0.1/"), "InvalidSchema"),
        (redirects("http://[::"), "it redirects to no address"),
    ],
)
def test_what_stays_broken_is_one_line_and_no_file(server, remote, tmp_path, failure, reason):
    server.behaviours = [failure]
    with pytest.raises(UserError, match=rf"^file.bin can't be downloaded \(127.0.0.1: ({reason})\). Get it elsewhere"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [*DRIPS.values(), loops(0.15)], ids=[*DRIPS, "redirects"])
def test_what_drips_is_given_up_after_a_time_in_all(server, remote, tmp_path, behaviour, monkeypatch):
    server.behaviours = [behaviour]
    retry_policy = RetryPolicy(
        attempts=2, backoff_seconds=0.01, timeout_seconds=(2, 2), head_seconds=0.4, block_seconds=0.4
    )
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^file.bin can't be downloaded \(127.0.0.1: too slow\). Get it elsewhere"):
        obtain(remote, tmp_path, retry_policy=retry_policy)
    assert time.monotonic() - start < 2
    monkeypatch.setattr(inputs, "TOTAL_SECONDS", 0.4)
    assert (
        inputs.read(inputs.Input(server.url()), normalisation.normalise).error
        == "can't be downloaded within 0.4 seconds"
    )
    assert time.monotonic() - start < 3


def test_a_slow_download_that_keeps_the_pace_is_no_drip(server, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "BLOCK_BYTES", 1024)
    server.behaviours = [paced]
    retry_policy = RetryPolicy(attempts=1, timeout_seconds=(2, 2), head_seconds=0.4, block_seconds=0.4)
    start = time.monotonic()
    assert obtain(remote, tmp_path, retry_policy=retry_policy).read_bytes() == CONTENT
    assert time.monotonic() - start > 0.8


@pytest.mark.parametrize("before", [breaks_off, resets])
def test_a_file_swapped_in_mid_download_is_found_out(server, remote, tmp_path, before):
    server.behaviours = [before, other_version, whole]
    assert obtain(remote, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    first, second, third = [asked for _, asked in server.requests]
    assert (first, third) == (None, None)
    assert second is None or second.startswith("bytes=")


def test_a_file_swapped_for_good_is_rejected_by_its_hash(server, remote, tmp_path):
    server.behaviours = [breaks_off, other_version]
    with pytest.raises(UserError, match=rf"its sha256 is [0-9a-f]{{64}}, not {SHA256}"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert {path.name for path in tmp_path.iterdir()} <= {".file.bin.lock"}
