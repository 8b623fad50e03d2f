"""docs/recipes: each file is a list of overrides that DVC and params.yaml take, and can be run again."""

import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]

from stages.library.settings import load_params

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.txt"))


def overrides(path):
    """Returns the KEY=VALUE words of a file of `-S KEY=VALUE` lines, as xargs splits them."""
    words = shlex.split(path.read_text())
    assert set(words[::2]) == {"-S"}
    return words[1::2]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_gives_valid_parameters_and_can_be_run_again(path, tmp_path):
    """DVC rejects a key that params.yaml lacks, unless a + adds it, as to a mapping of names; the next run finds it."""
    added = [word for word in overrides(path) if word.startswith("+")]
    assert all(word.startswith(("++extract.weights.", "++cross_validation.holdout_fraction.")) for word in added)
    params = Path(shutil.copy(ROOT / "params.yaml", tmp_path))
    apply_overrides(params, overrides(path))
    load_params(params)
    first = params.read_bytes()
    assert first != (ROOT / "params.yaml").read_bytes()
    apply_overrides(params, overrides(path))
    assert params.read_bytes() == first


@pytest.mark.parametrize("section", ["scratch", "finetune"])
def test_what_one_recipe_sets_the_others_set_too(section):
    """`dvc exp run` leaves its changes in params.yaml, so a recipe may start from another one's."""
    keys = [{word.split("=")[0] for word in overrides(path) if word.startswith(section)} for path in RECIPES]
    using = [found for found in keys if found]
    assert len(using) > 1
    assert all(found == using[0] for found in using)
