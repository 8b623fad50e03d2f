"""Names of models and of what they are made of, as in metrics/, on the leaderboard and after --model."""

from typing import Final

FINETUNED: Final = "finetuned"
SCRATCH: Final = "scratch"
COMBINED: Final = "combined"  # with a method: "combined/average"
JOINT: Final = "+"  # between the backbones of a joined one


def members(backbone: str) -> list[str]:
    """Returns the backbones that one is made of: those of a joined one, such as "a+b", or itself."""
    return backbone.split(JOINT)
