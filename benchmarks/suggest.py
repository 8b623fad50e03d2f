"""What to label next: accuracy on Caltech-101 as images are labelled at random, or as `app.suggest` chooses them.

In each draw 2,500 random images test (the background class is left out). 101 random ones are labelled first, then 100 a
round, by: random; margin (where the two likeliest classes are closest); BADGE (Ash et al. 2020, arXiv:1906.03671);
suggest. After each round scikit-learn's logistic regression is trained anew on features that are computed once. Cells
are means over the draws in percent, and, of suggest, in how many draws it was above random.
Run: python -m benchmarks.suggest caltech-101.zip [--draws 5] [--rounds 7]
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from app import suggestion
from benchmarks.shared import parser, records, run, stage, write_params
from stages.library.common.artifacts import sha256_file
from stages.library.features import cache

BACKBONE = "efficientnet_lite0"
TESTED, FIRST, BATCH = 2500, 101, 100
INVERSE_PENALTY = 100.0  # of features whose mean square length is 1
BACKGROUND = "BACKGROUND_Google"
Way = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # features, probabilities, seed -> rows


def main() -> None:
    """Prints the table."""
    options = parser("suggest", __doc__)
    options.add_argument("archive", type=Path, help="the zip as it is published")
    options.add_argument("--draws", type=int, default=5, metavar="N", help="of test images and first ones")
    options.add_argument("--rounds", type=int, default=7, metavar="N", help=f"of {BATCH} images each")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        features, labels = read(arguments.archive, Path(name))
    found: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    for draw in range(arguments.draws):
        for name, way in WAYS.items():
            found[name].append(curve(features, labels, way, arguments.rounds, draw))
            print(draw, name, *(f"{accuracy:.4f}" for accuracy in found[name][-1]), file=sys.stderr, flush=True)
    print(table(found).to_string())


def read(archive: Path, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of all images, float32 (n, dim), and their classes' ranks, int64 (n,)."""
    about = {"name": "caltech101", "archive": str(archive.resolve()), "archive_sha256": sha256_file(archive)}
    params = write_params(work / "params.yaml", {"dataset": about})
    records(params, work / "raw", work / "records")
    given = {"params": params, "records": work / "records", "out": work / "features"}
    run(stage("bottleneck_extract", backbone=BACKBONE, **given))
    found = cache.load(work / "features", ["train", "validation", "test"], "bottleneck")
    used = np.array([text != BACKGROUND for text in found.source.classes])[found.labels]
    values = found.values[used].astype(np.float32)
    ranks = np.unique(found.labels[used], return_inverse=True)[1]
    return values / np.sqrt(np.square(values).sum(axis=1).mean()), np.asarray(ranks, np.int64)


def curve(features: np.ndarray, labels: np.ndarray, way: Way, rounds: int, draw: int) -> list[float]:
    """Returns the accuracy on the test images before the first round and after each."""
    from sklearn.linear_model import LogisticRegression

    order = np.random.default_rng(draw).permutation(len(labels))
    tested, pool, labelled = order[:TESTED], order[TESTED:], order[TESTED : TESTED + FIRST].tolist()
    accuracies = []
    for number in range(rounds + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few images of a class, few steps
            model = LogisticRegression(C=INVERSE_PENALTY, max_iter=200).fit(features[labelled], labels[labelled])
        accuracies.append(float((model.predict(features[tested]) == labels[tested]).mean()))
        rest = np.setdiff1d(pool, labelled)
        chosen = way(features[rest], model.predict_proba(features[rest]), 100 * draw + number)
        labelled += rest[chosen].tolist()
    return accuracies


def at_random(features: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Rows drawn evenly."""
    return np.random.default_rng(seed).permutation(len(features))[:BATCH]


def by_margin(features: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the smallest margins, with no thought of diversity."""
    return np.argsort(suggestion.margins(probabilities), kind="stable")[:BATCH]


def badge(features: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Seeds of k-means++ among the gradients of the last layer for the model's own answers.

    A gradient is the outer product of an image's slopes and features, so products of gradients are those of factors.
    """
    slopes = probabilities.copy()
    slopes[np.arange(len(slopes)), slopes.argmax(axis=1)] -= 1
    squares = np.square(slopes).sum(axis=1) * np.square(features).sum(axis=1)
    rng, chosen = np.random.default_rng(seed), [int(squares.argmax())]
    nearest = np.full(len(squares), np.inf)
    while len(chosen) < BATCH:
        row = chosen[-1]
        products = (slopes @ slopes[row]) * (features @ features[row])
        nearest = np.minimum(nearest, np.maximum(squares + squares[row] - 2 * products, 0))
        nearest[chosen] = 0
        chosen.append(int(rng.choice(len(nearest), p=nearest / nearest.sum())))
    return np.array(chosen)


def suggested(features: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Rows as the program chooses them."""
    return suggestion.choose(features, probabilities, BATCH, seed)


WAYS: dict[str, Way] = {"random": at_random, "margin": by_margin, "BADGE": badge, "suggest": suggested}


def table(found: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Returns a row for each number of labelled images."""
    means = {name: 100 * np.mean(curves, axis=0) for name, curves in found.items()}
    above = (np.array(found["suggest"]) > np.array(found["random"])).sum(axis=0)
    draws, steps = np.shape(found["random"])
    cells = {name: [f"{mean:.2f}" for mean in column] for name, column in means.items()}
    cells["above random"] = [f"{count} of {draws}" for count in above]
    return pd.DataFrame(cells, pd.Index([FIRST + BATCH * step for step in range(steps)], name="labelled"))


if __name__ == "__main__":
    main()
