"""docs/params.md is what the code says."""

import json
from typing import Annotated

import pydantic
import pytest
from conftest import ROOT

from app import params_docs


def test_the_program_writes_the_page_that_is_there(run_app, default_params, tmp_path):
    _, printed, _ = run_app("params_docs", "--out", tmp_path / "x.md")
    assert str(tmp_path) in printed
    page = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    assert page == (tmp_path / "x.md").read_text(encoding="utf-8"), "run: python -m app.params_docs"
    sections = {section: keys for section, keys in default_params.items() if isinstance(keys, dict)}
    assert all(f"## {section} (reruns `" in page for section in sections)
    # By ${item.head} and by its own name.
    assert "## ridge (reruns `train-heads`, `train-joined`, `fewshot`, `fewshot-joined`, `report`)" in page
    for key, value in (pair for keys in sections.values() for pair in keys.items()):
        assert f"| `{key}` |" in page
        assert f"`{json.dumps(value)}`" in page


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "`true` or `false`"),
        (int | None, "integer or `null`"),
        (Annotated[int, pydantic.Field(ge=1, le=9)], "integer, ≥ 1, ≤ 9"),
        (Annotated[float, pydantic.Field(gt=0, lt=1)], "number, > 0, < 1"),
        (tuple[Annotated[int, pydantic.Field(ge=2)], ...], "list, each integer, ≥ 2"),
        (dict[str, str], "mapping"),
        (Annotated[str, pydantic.Field(pattern="^a$")], "text, matches `^a$`"),
    ],
)
def test_rules_in_words(kind, words):
    assert ", ".join(params_docs.rules(pydantic.TypeAdapter(kind).json_schema())) == words
