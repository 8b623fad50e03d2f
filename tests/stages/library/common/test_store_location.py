"""The feature store at a URL; fsspec's memory:// stands for the object stores. In a folder: test_feature_store.py."""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from stages.library.common import store_location
from stages.library.common.console import UserError
from stages.library.extraction.feature_store import FeatureStore, Rows

KEYS = np.array([f"{number:064x}" for number in range(3)], "S64")
ROWS = Rows(KEYS, np.arange(12, dtype=np.float16).reshape(3, 4), np.ones((3, 2), np.float16))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DECANT_STORE", f"memory://bucket/{tmp_path.name}/store")
    return store_location.root()


def made(root, backbone="tiny"):
    store = FeatureStore(root / (backbone[0] * 64), {"backbone": backbone}, 4, 2)
    store.put(ROWS, "digits")
    return store


def test_the_default_is_in_the_cache_folder_and_both_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for chosen, cache in (("", tmp_path / "decant"), (str(tmp_path / "x"), tmp_path / "x")):
        monkeypatch.setenv("DECANT_CACHE", chosen)
        assert store_location.root() == cache / "features"
    monkeypatch.setenv("DECANT_STORE", "~/features")
    assert store_location.root() == Path.home() / "features"


@pytest.mark.parametrize("address", ["nosuch://x/y", "abfs://container/y"])
def test_a_url_that_nothing_reads_names_the_remedy(monkeypatch, address):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    monkeypatch.setenv("DECANT_STORE", address)
    with pytest.raises(UserError, match=r"`DECANT_STORE` must be .*Received: '.*pip install 'dvc\[s3\]'"):
        store_location.root()


def test_what_is_put_is_read_and_what_is_damaged_is_removed(root, capsys):
    store = made(root)
    (part,) = store.parts()
    assert store.keys([part]).tolist() == KEYS.tolist()
    (rows,) = store.read([part])
    np.testing.assert_array_equal(rows.bottleneck, ROWS.bottleneck)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    assert list(store.read([part])) == []
    assert "is damaged" in capsys.readouterr().out
    assert store.parts() == []


def test_what_a_remote_store_raises_becomes_one_line_and_an_error_of_a_folder_stays(root, monkeypatch, tmp_path):
    class NoCredentialsError(Exception):  # as of boto, whose errors are no OSError
        pass

    reject = mock.Mock(side_effect=NoCredentialsError("Unable to locate credentials"))
    monkeypatch.setattr(type(root), "glob", reject)
    monkeypatch.setattr(store_location, "write", reject)
    store = FeatureStore(root / "x", {}, 4, 2)
    for operation in (store.parts, lambda: store.put(ROWS, "digits")):
        with pytest.raises(UserError, match=r"`DECANT_STORE` can't be used \(Unable to locate credentials\).*bucket/"):
            operation()
    with pytest.raises(NoCredentialsError):
        FeatureStore(tmp_path / "x", {}, 4, 2).put(ROWS, "digits")


def test_the_program_shows_and_prunes_it_but_for_what_was_never_dated(root, run_app):
    made(root)
    made(root, "large")
    run_app("store", "prune", "--unused-for", "0.001")
    assert f"{root}: 6 images" in run_app("store")[1]
    assert run_app("store", "verify")[0] == 0
    run_app("store", "prune", "--backbone", "tiny")
    assert f"{root}: 3 images" in run_app("store")[1]
    run_app("store", "prune", "--all")
    assert not list(root.glob("*/*"))


def test_touching_is_allowed_to_fail(root):
    path = root / "some.json"
    store_location.touch(path)
    store_location.write(path, b"{}")
    store_location.touch(path)
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize("variable", ["DECANT_STORE", "DECANT_CACHE"])
@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_what_is_no_folder_names_the_variable_and_the_place(monkeypatch, tmp_path, variable, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    monkeypatch.delenv("DECANT_STORE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / place))
    with pytest.raises(
        UserError, match=rf"`{variable}` must be a folder, and '.*/(file|link)' is none\. Received: '.*{place}'"
    ):
        store_location.root()
    monkeypatch.setenv(variable, str(tmp_path / "new" / "folder"))
    assert store_location.root().parts[-2:] in (("new", "folder"), ("folder", "features"))
