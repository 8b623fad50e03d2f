"""Decisions by content: the same key and seed give the same number, on any machine and in any order."""

import hashlib
from typing import Annotated

import pydantic

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


def uniform(key: str, purpose: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on the key, the purpose and the seed alone; uniform over keys."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{key}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56
