"""What app.tune varies of a head stands beside each key's rule."""

import json
from dataclasses import asdict
from typing import Annotated

import pydantic
import pytest
from conftest import ROOT

from stages.library.common.params import CONFIG, parse
from stages.library.common.plugins import PLUGINS, plugin_names
from stages.library.heads import contract, search_space
from stages.library.heads.search_space import Choice, Range
from stages.library.settings import load_params


@pytest.mark.parametrize("head", plugin_names(PLUGINS["heads"]))
def test_what_a_head_tries_obeys_its_rules_and_has_the_default(head):
    section = load_params(ROOT / "params.yaml")[head]
    space, present = search_space.of(type(section)), json.loads(json.dumps(asdict(section)))
    assert {"features"} < set(space)
    for key, part in space.items():
        for value in part.values if isinstance(part, Choice) else (part.low, part.high):
            parse(head, present | {key: value}, type(section))
        if isinstance(part, Range):
            assert part.low <= present[key] <= part.high
            assert part.low > 0 or not part.log
            assert type(part.low) is type(part.high) is type(present[key])
        else:
            assert present[key] in json.loads(json.dumps(part.values))


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CONFIG)
class OwnParams:
    """Of a head of one's own."""

    neighbours: Annotated[int, pydantic.Field(ge=1), Range(1, 50, log=True)]
    metric: Annotated[str, pydantic.Field(description="of distance"), Choice(("cosine", "euclidean"))]
    features: contract.Features


def test_a_range_or_a_choice_beside_a_rule_is_all_that_a_head_of_ones_own_needs():
    assert search_space.of(OwnParams) == {
        "neighbours": Range(1, 50, log=True),
        "metric": Choice(("cosine", "euclidean")),
    }
