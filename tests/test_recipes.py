"""docs/recipes: every file is a list of overrides that params.yaml takes, and docs/systems.md says what it is for."""

import io
import shlex

import pytest
from conftest import ROOT, change
from ruamel.yaml import YAML

from stages.library import params

RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.txt"))


def overrides(path):
    """Returns dotted key -> value of a file of `-S KEY=VALUE` lines, as xargs and DVC's parser split them."""
    words = shlex.split(path.read_text())
    assert set(words[::2]) == {"-S"}
    pairs = [word.split("=", 1) for word in words[1::2]]
    return {key.removeprefix("+"): YAML(typ="safe", pure=True).load(io.StringIO(value)) for key, value in pairs}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_gives_valid_parameters(path, default_params):
    params.Params(change(default_params, overrides(path)))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_adds_no_key_but_weights(path, default_params):
    for key in overrides(path):
        section, name = key.split(".", 1) if "." in key else (key, None)
        assert section in default_params
        assert name is None or name in default_params[section] or name.startswith("weights.")


def test_each_recipe_is_documented():
    text = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    assert RECIPES
    assert [path.name for path in RECIPES if f"docs/recipes/{path.name}" not in text] == []
