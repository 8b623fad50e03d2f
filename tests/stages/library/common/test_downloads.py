"""Downloads from a server that misbehaves in every way that real ones do."""

import errno
import hashlib
import os
import threading
from dataclasses import replace

import pytest

from stages.library.common import downloads
from stages.library.common.console import UserError
from stages.library.common.downloads import RemoteFile, RetryPolicy, obtain
from tests.misbehaving import (
    CONTENT,
    SHA256,
    breaks_off,
    declared_as_gzip,
    endless_head,
    garbage,
    hangs_up,
    ranged,
    redirects,
    resets,
    stalls,
    status,
    too_long,
    web_page,
    whole,
    wrong_bytes,
    wrong_range,
)

QUICK = RetryPolicy(attempts=3, backoff_seconds=0.01, timeout_seconds=(2, 0.5))


# What may pass: the server's failures, and what is not HTTP at all.
BROKEN = [breaks_off, stalls, hangs_up, status(500), status(503), status(429)]
BROKEN += [resets, garbage, endless_head, redirects("/file.bin")]


def leftovers(cache):
    return {path.name for path in cache.iterdir()} - {".file.bin.lock"}


def test_a_download_is_kept_and_used_again(server, remote, tmp_path):
    path = obtain(remote, tmp_path / "new" / "cache", retry_policy=QUICK)
    assert path == tmp_path / "new" / "cache" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert obtain(remote, path.parent, retry_policy=QUICK) == path
    assert server.requests == [("file.bin", None)]
    assert leftovers(path.parent) == {"file.bin"}


@pytest.mark.parametrize("published", [{"sha256": SHA256}, {"md5": hashlib.md5(CONTENT).hexdigest()}, {}])
def test_a_damaged_copy_is_downloaded_anew(server, tmp_path, published):
    remote = RemoteFile("file.bin", (server.url(),), **published)
    path = obtain(remote, tmp_path, retry_policy=QUICK)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert obtain(remote, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("failure", BROKEN)
def test_passing_failures_are_tried_again(server, remote, tmp_path, failure):
    server.behaviours = [failure, failure, ranged]
    assert obtain(remote, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_later_run_resumes_even_at_another_mirror(server, remote, tmp_path):
    server.behaviours = [breaks_off, status(500), status(500), ranged]
    with pytest.raises(UserError, match=r"HTTP 500"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert (tmp_path / "file.bin.partial").read_bytes() == CONTENT[:3000]
    again = replace(remote, urls=(server.url("b"),))
    assert obtain(again, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert server.requests[-1] == ("b", "bytes=3000-")


@pytest.mark.parametrize(
    ("partial", "behaviours", "asked"),
    [
        (b"", [declared_as_gzip], [None]),  # which is not undone
        (b"", [breaks_off, ranged], [None, "bytes=3000-"]),
        (CONTENT[:1000], [whole], ["bytes=1000-"]),
        (CONTENT[:1000], [status(416), whole], ["bytes=1000-", None]),
        (CONTENT[:1000], [wrong_range, whole], ["bytes=1000-", None]),
        (b"x" * 1000, [ranged], ["bytes=1000-", None]),
        (CONTENT, [whole], []),
        (CONTENT + b"x" * 5, [whole], [None]),
    ],
)
def test_what_broke_off_is_resumed_where_the_server_and_the_bytes_allow_it(
    server, remote, tmp_path, partial, behaviours, asked
):
    (tmp_path / "file.bin.partial").write_bytes(partial)
    server.behaviours = list(behaviours)
    assert obtain(remote, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert [range_asked for _, range_asked in server.requests] == asked


def test_nothing_is_resumed_where_no_hash_is_published(server, tmp_path):
    server.behaviours = [breaks_off, whole]
    assert obtain(RemoteFile("file.bin", (server.url(),)), tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert server.requests == [("file.bin", None)] * 2


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (status(404), "HTTP 404"),
        (status(403), "HTTP 403"),
        (wrong_bytes, f"its sha256 is [0-9a-f]{{64}}, not {SHA256}"),
        (too_long, f"it sent more than the {len(CONTENT)} bytes"),
        (web_page, "it sent a web page"),
    ],
)
def test_a_lasting_failure_leads_to_the_next_mirror_and_leaves_nothing(server, remote, tmp_path, failure, reason):
    remote = replace(remote, urls=(server.url("first"), server.url("second")))
    server.behaviours = [failure, ranged]
    assert obtain(remote, tmp_path, retry_policy=QUICK).read_bytes() == CONTENT
    assert server.requests == [("first", None), ("second", None)]
    (tmp_path / "file.bin").unlink()
    server.behaviours = [failure]
    with pytest.raises(UserError, match=f"127.0.0.1: {reason}.*; 127.0.0.1: {reason}"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert leftovers(tmp_path) == set()


def test_without_network_one_line_says_what_to_do(server, tmp_path):
    server.server_close()
    url = server.url()
    with pytest.raises(UserError) as caught:
        obtain(RemoteFile("file.bin", (url,), 1, SHA256), tmp_path, "or give its path as `dataset.archive`", QUICK)
    assert str(caught.value) == (
        f"file.bin can't be downloaded (127.0.0.1: no connection). Get it elsewhere from {url} and put it at "
        f"{tmp_path / 'file.bin'}, or give its path as `dataset.archive`"
    )


def test_a_damaged_copy_is_named_where_no_other_can_be_had(server, remote, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"x")
    server.behaviours = [status(404)]
    with pytest.raises(UserError, match=r"the cached copy was removed, for its sha256 is .*; 127.0.0.1: HTTP 404"):
        obtain(remote, tmp_path, retry_policy=QUICK)


def test_an_unpublished_hash_is_recorded_and_checked_from_then_on(server, tmp_path, capsys):
    remote = RemoteFile("file.bin", (server.url(),))
    path = obtain(remote, tmp_path, retry_policy=QUICK)
    record = tmp_path / "file.bin.sha256"
    said = f"file.bin: no hash is published; from now on it must be {SHA256} ({record})\n"
    assert capsys.readouterr().out == said
    assert obtain(remote, tmp_path, retry_policy=QUICK) == path
    assert capsys.readouterr().out == ""
    assert (tmp_path / "file.bin.sha256").read_text() == f"{SHA256}  file.bin\n"
    path.unlink()
    server.behaviours = [wrong_bytes]
    with pytest.raises(UserError, match=f"not {SHA256} as .*file.bin.sha256 recorded"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert leftovers(tmp_path) == {"file.bin.sha256"}


def test_runs_at_the_same_time_download_once(server, remote, tmp_path):
    paths = []
    runs = [
        threading.Thread(target=lambda: paths.append(obtain(remote, tmp_path, retry_policy=QUICK))) for _ in range(6)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert paths == [tmp_path / "file.bin"] * 6
    assert server.requests == [("file.bin", None)]


def test_a_cache_that_can_not_be_written_is_a_users_error(remote, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="Set DECANT_CACHE to another folder"):
        obtain(remote, tmp_path / "cache", retry_policy=QUICK)


def test_a_copy_in_a_cache_that_can_only_be_read_is_verified_and_used(server, remote, tmp_path, monkeypatch):
    path = obtain(remote, tmp_path, retry_policy=QUICK)

    def denied(lock):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(lock))

    monkeypatch.setattr(downloads, "FileLock", denied)
    assert obtain(remote, tmp_path, retry_policy=QUICK) == path
    with pytest.raises(UserError, match=r"can't be used: .*Read-only file system"):
        obtain(replace(remote, filename="other"), tmp_path, retry_policy=QUICK)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match=r"can't be used: .*Read-only file system"):
        obtain(remote, tmp_path, retry_policy=QUICK)
    assert len(server.requests) == 1


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("DECANT_CACHE", str(tmp_path))
    assert downloads.cache_folder() == tmp_path
    monkeypatch.setenv("DECANT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert downloads.cache_folder() == tmp_path / "xdg" / "decant"


def test_a_local_archive_is_verified(tmp_path):
    path = tmp_path / "file.bin"
    with pytest.raises(UserError, match=r"`dataset.archive` must be a readable file \(No such file"):
        downloads.verified_local(path, SHA256)
    with pytest.raises(UserError, match=r"`dataset.archive` must be a readable file \(Is a directory"):
        downloads.verified_local(tmp_path, SHA256)
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
    assert destination.samefile(source)
    assert not destination.is_symlink()
    monkeypatch.setattr("pathlib.Path.hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("another file system")))
    downloads.link(source, destination)
    assert not destination.samefile(source)
    assert destination.read_bytes() == CONTENT
