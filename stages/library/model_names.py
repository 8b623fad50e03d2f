"""Names of the models that are whole networks, as in metrics/, on the leaderboard and after --model."""

FINETUNED = "finetuned"
SCRATCH = "scratch"
