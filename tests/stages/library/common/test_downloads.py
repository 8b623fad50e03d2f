"""Downloads from a server that misbehaves in every way that real ones do: one line, and never another's bytes."""

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest import mock

import pytest

from app import inputs
from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile, obtain
from stages.library.preparation import normalisation
from tests import misbehaving as server_that
from tests.misbehaving import CONTENT, DRIPS, SHA256, answers, breaks_off, ranged, redirects, whole

LENGTH = len(CONTENT)
endless_head = server_that.sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000)
wrong_bytes = answers(200, b"x" * LENGTH)
too_long = answers(200, CONTENT + b"more")
web_page = answers(200, b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")
declared_as_gzip = answers(200, CONTENT, Content_Encoding="x-gzip")
wrong_range = answers(206, CONTENT[7:], Content_Range=f"bytes 7-{LENGTH - 1}/{LENGTH}")


def loops(seconds):
    """Redirects every request to itself, after a while."""

    def behaviour(handler):
        time.sleep(seconds)
        redirects(handler.path + "x")(handler)

    return behaviour


# By what is said of them. What may pass is tried again: the server's failures, and what is not HTTP at all.
PASSING = {f"HTTP {code}": [answers(code)] for code in (429, 500, 503)} | {
    "the connection broke off": [breaks_off, server_that.resets],
    "no answer in time": [server_that.stalls],
    "no connection": [server_that.hangs_up, server_that.garbage, endless_head],
    "TooManyRedirects": [redirects("/file.bin"), loops(0)],
    "InvalidSchema": [redirects("file:///etc/passwd"), redirects("gopher://127.0.0.1/")],
}
LASTING = {f"HTTP {code}": [answers(code)] for code in (403, 404)} | {
    f"its sha256 is [0-9a-f]{{64}}, not {SHA256}": [wrong_bytes, server_that.other_version],
    f"it sent more than the {LENGTH} bytes of the file": [too_long],
    "it sent a web page, not the file": [web_page],
    "it redirects to no address": [redirects("http://[::")],
}
FAILURES = [(failure, reason, True) for reason, failures in PASSING.items() for failure in failures]
FAILURES += [(failure, reason, False) for reason, failures in LASTING.items() for failure in failures]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", (2, 0.5))


@pytest.fixture
def short(monkeypatch):
    """Little time for the head and for each KiB of the body, more for one read of it."""
    for name, value in {"TIMEOUT_SECONDS": (2, 2), "HEAD_SECONDS": 0.4, "BLOCK_SECONDS": 0.4, "ATTEMPTS": 2}.items():
        monkeypatch.setattr(downloads, name, value)
    monkeypatch.setattr(downloads, "BLOCK_BYTES", 1024)
    monkeypatch.setattr(inputs, "TOTAL_SECONDS", 0.4)


def leftovers(cache):
    return {path.name for path in cache.iterdir()} - {".file.bin.lock"}


def test_runs_at_the_same_time_download_once_and_later_ones_use_the_copy(server, remote, tmp_path):
    cache = tmp_path / "new" / "cache"
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: obtain(remote, cache), range(6)))
    assert [*paths, obtain(remote, cache)] == [cache / "file.bin"] * 7
    assert paths[0].read_bytes() == CONTENT
    assert server.requests == [("file.bin", None)]
    assert leftovers(cache) == {"file.bin"}


@pytest.mark.parametrize("published", [{"sha256": SHA256}, {"md5": hashlib.md5(CONTENT).hexdigest()}, {}])
def test_a_damaged_copy_is_downloaded_anew_and_named_where_there_is_no_other(server, tmp_path, published):
    remote = RemoteFile("file.bin", (server.url(),), **published)
    path = obtain(remote, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert obtain(remote, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 2
    path.write_bytes(b"x")
    server.behaviours = [answers(404)]
    with pytest.raises(UserError, match=r"the cached copy was removed, for its \w+ is .*; 127.0.0.1: HTTP 404"):
        obtain(remote, tmp_path)


@pytest.mark.parametrize(("failure", "reason", "again"), FAILURES)
def test_what_may_pass_is_tried_again_and_what_lasts_leads_to_the_next_mirror(
    server, remote, tmp_path, failure, reason, again
):
    remote = replace(remote, urls=(server.url("first"), server.url("second")))
    server.behaviours = [failure, failure, ranged] if again else [failure, ranged]
    assert obtain(remote, tmp_path).read_bytes() == CONTENT
    names = [name for name, _ in server.requests]
    assert (len(names) == 3 and "second" not in names) if again else names == ["first", "second"]
    (tmp_path / "file.bin").unlink()
    server.behaviours, server.requests = [failure], []
    both = rf"127.0.0.1: {reason}; 127.0.0.1: {reason}"
    with pytest.raises(UserError, match=rf"^file.bin can't be downloaded \({both}\)\. Get it elsewhere"):
        obtain(remote, tmp_path)
    assert leftovers(tmp_path) <= ({"file.bin.partial"} if again else set())


def test_a_later_run_resumes_even_at_another_mirror(server, remote, tmp_path):
    server.behaviours = [breaks_off, answers(500), answers(500), ranged]
    with pytest.raises(UserError, match=r"HTTP 500"):
        obtain(remote, tmp_path)
    assert (tmp_path / "file.bin.partial").read_bytes() == CONTENT[:3000]
    assert obtain(replace(remote, urls=(server.url("b"),)), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("b", "bytes=3000-")


@pytest.mark.parametrize(
    ("partial", "behaviours", "asked"),
    [
        (None, [breaks_off, whole], [None, None]),  # for no hash is published
        (b"", [declared_as_gzip], [None]),  # which is not undone
        (b"", [breaks_off, ranged], [None, "bytes=3000-"]),
        (b"", [breaks_off, server_that.other_version, whole], [None, "bytes=3000-", None]),  # swapped in mid download
        (CONTENT[:1000], [whole], ["bytes=1000-"]),
        (CONTENT[:1000], [answers(416), whole], ["bytes=1000-", None]),
        (CONTENT[:1000], [wrong_range, whole], ["bytes=1000-", None]),
        (b"x" * 1000, [ranged], ["bytes=1000-", None]),
        (CONTENT, [whole], []),
        (CONTENT + b"x" * 5, [whole], [None]),
    ],
)
def test_what_broke_off_is_resumed_where_the_server_and_the_bytes_allow_it(
    server, remote, tmp_path, partial, behaviours, asked
):
    (tmp_path / "file.bin.partial").write_bytes(partial or b"")
    server.behaviours = list(behaviours)
    published = remote if partial is not None else RemoteFile("file.bin", remote.urls)
    assert obtain(published, tmp_path).read_bytes() == CONTENT
    assert [range_asked for _, range_asked in server.requests] == asked


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("behaviour", [*DRIPS.values(), loops(0.15)], ids=[*DRIPS, "redirects"])
def test_what_drips_is_given_up_after_a_time_in_all(server, remote, tmp_path, behaviour):
    server.behaviours = [behaviour]
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^file.bin can't be downloaded \(127.0.0.1: too slow\). Get it elsewhere"):
        obtain(remote, tmp_path)
    assert time.monotonic() - start < 2
    answer = inputs.read(inputs.Input(server.url()), normalisation.normalise)
    assert answer.error == "can't be downloaded within 0.4 seconds"
    assert time.monotonic() - start < 3


@pytest.mark.usefixtures("short")
def test_a_slow_download_that_keeps_the_pace_is_no_drip(server, remote, tmp_path):
    server.behaviours = [server_that.paced]
    start = time.monotonic()
    assert obtain(remote, tmp_path).read_bytes() == CONTENT
    assert time.monotonic() - start > 0.8


def test_without_network_one_line_says_what_to_do(server, tmp_path):
    server.server_close()
    url = server.url()
    with pytest.raises(UserError) as caught:
        obtain(RemoteFile("file.bin", (url,), 1, SHA256), tmp_path, "or do without")
    remedy = f"Get it elsewhere from {url} and put it at {tmp_path / 'file.bin'}, or do without"
    assert str(caught.value) == f"file.bin can't be downloaded (127.0.0.1: no connection). {remedy}"


def test_an_unpublished_hash_is_recorded_and_checked_from_then_on(server, tmp_path, capsys):
    remote = RemoteFile("file.bin", (server.url(),))
    record = tmp_path / "file.bin.sha256"
    said = f"file.bin: no hash is published; from now on it must be {SHA256} ({record})\n"
    for expected in (said, ""):
        path = obtain(remote, tmp_path)
        assert capsys.readouterr().out == expected
    assert record.read_text() == f"{SHA256}  file.bin\n"
    path.unlink()
    server.behaviours = [wrong_bytes]
    with pytest.raises(UserError, match=f"not {SHA256} as .*file.bin.sha256 recorded"):
        obtain(remote, tmp_path)
    assert leftovers(tmp_path) == {"file.bin.sha256"}


def test_a_copy_in_a_cache_that_can_only_be_read_is_verified_and_used(server, remote, tmp_path, monkeypatch):
    path, denied = obtain(remote, tmp_path), OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(downloads, "FileLock", mock.Mock(side_effect=denied))
    assert obtain(remote, tmp_path) == path
    path.write_bytes(CONTENT[:-1] + b"x")
    for wanted in (remote, replace(remote, filename="other")):
        with pytest.raises(UserError, match=r"can't be used: .*Read-only file system.*Set DECANT_CACHE to another"):
            obtain(wanted, tmp_path)
    assert len(server.requests) == 1


def test_a_local_archive_is_verified(tmp_path):
    path = tmp_path / "file.bin"
    for missing, reason in ((path, "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=rf"`dataset.archive` must be a readable file \({reason}"):
            downloads.verified_local(missing, SHA256)
    path.write_bytes(CONTENT)
    assert downloads.verified_local(str(path), SHA256) == path
    with pytest.raises(UserError, match=f"`dataset.archive_sha256` must be the sha256 of .*, {SHA256}. Received: 00"):
        downloads.verified_local(path, "00")


def test_a_link_is_hard_where_it_can_be_and_a_copy_elsewhere(tmp_path, monkeypatch):
    source, destination, pointer = tmp_path / "source", tmp_path / "destination", tmp_path / "pointer"
    source.write_bytes(CONTENT)
    pointer.symlink_to(source)
    destination.write_bytes(b"old")
    downloads.link(pointer, destination)
    assert destination.lstat().st_ino == source.stat().st_ino
    monkeypatch.setattr("pathlib.Path.hardlink_to", mock.Mock(side_effect=OSError("another file system")))
    downloads.link(source, destination)
    assert not destination.samefile(source)
    assert destination.read_bytes() == CONTENT
