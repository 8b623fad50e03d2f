"""What `app.tune` varies of a head: each key of its `Params` that has a `Range` or a `Choice` beside its rule.

    dropout: Annotated[float, pydantic.Field(ge=0, lt=1, description="..."), Range(0.0, 0.9)]

A head of one's own needs no more than that. The numbers are where good values were found, not all that are valid.
"""

import typing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included: integers where `low` is one."""

    low: float
    high: float
    log: bool = False  # evenly by their logarithm; the key's own rule must then demand numbers above 0


@dataclass(frozen=True)
class Choice:
    """Some values, as params.yaml holds them; a list is a tuple."""

    values: tuple[Any, ...]


Space = dict[str, Range | Choice]


def of(params: type) -> Space:
    """Returns the key -> what is tried, of a head's `Params` and of the classes that it extends."""
    hints = typing.get_type_hints(params, include_extras=True)
    found = ((key, part) for key, hint in hints.items() for part in getattr(hint, "__metadata__", ()))
    return {key: part for key, part in found if isinstance(part, Range | Choice)}
