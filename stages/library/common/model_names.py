"""Names of the models that are whole networks, as in metrics/, on the leaderboard and after --model."""

from typing import Final

FINETUNED: Final = "finetuned"
SCRATCH: Final = "scratch"
