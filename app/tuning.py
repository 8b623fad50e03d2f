"""A search for a head's settings: Optuna proposes them, and the cross-validation that training does scores them.

Reference: Bergstra, Bardenet, Bengio and Kégl, Algorithms for Hyper-Parameter Optimization, 2011 (the sampler, TPE).
"""

import functools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts, guarded_files, source_code
from stages.library.common.console import Stopwatch, UserError
from stages.library.common.guarded_files import CONFIG
from stages.library.common.params import parse
from stages.library.features import cache, joined
from stages.library.heads import contract, cross_validation, out_of_fold, search_space
from stages.library.heads import examples as prepared
from stages.library.heads.search_space import Choice, Range
from stages.library.scoring import selection
from stages.library.settings import Params

if TYPE_CHECKING:
    import optuna

DIGITS = 3  # significant ones, of the numbers that are tried: they are typed again


@pydantic.with_config(CONFIG)
class Trial(TypedDict):
    """Settings that were tried."""

    values: dict[str, Any]  # by key of the head's section, as params.yaml has them
    scores: list[float]  # the metric of each fold; empty where training failed
    error: str  # why it failed, or ""
    seconds: float


class Search:
    """The trials of a head on one backbone's features, in a file that is written after each.

    Its name has a hash of all that the scores depend on, so trials of other images, folds or code are never mixed. What
    is tried next depends on the seed and the trials before: a search that was stopped goes on as if it had not been.
    """

    def __init__(self, head: str, settings: Params, bottlenecks: Path, folder: Path):
        """Reads the features of training and validation in `bottlenecks`, and the trials in `folder`."""
        section, self._folds = settings[head], settings["cross_validation"]
        self.head, self._kind = head, type(section)
        self.metric: selection.SelectionMetric = settings["evaluate"].selection_metric
        self.space = search_space.of(self._kind)
        if not self.space:
            raise UserError(
                f"the head {head} says of no key what may be tried. Give one a Range or a Choice beside its rule, as "
                "stages/library/heads/search_space.py shows"
            )
        self.present: dict[str, Any] = json.loads(json.dumps(asdict(section)))  # the section as params.yaml has it
        self._distributions = {
            key: distribution(f"{head}.{key}", part, self.present[key]) for key, part in self.space.items()
        }
        self._features = functools.cache(functools.partial(joined.load, bottlenecks, ("train", "validation")))
        features = self._features(section.features)
        self.examples = prepared.of(features, self._folds, settings["class_weights"], head)
        self.path = folder / f"{head}-{self._fingerprint(features)[:12]}.json"
        self.trials: list[Trial] = self._read() if self.path.exists() else []

    def step(self) -> None:
        """Makes the next trial; UserError where the first one, of params.yaml itself, fails."""
        values, stopwatch = self.propose(), Stopwatch()
        scores, error = [], ""
        try:
            scores = self.scores(values)
        except UserError as problem:  # it diverged, for instance, of which the next trials learn
            if not self.trials:
                raise
            error = str(problem)
        trial = Trial(values=values, scores=scores, error=error, seconds=round(stopwatch.seconds(), 2))
        self.trials.append(trial)
        artifacts.write_json(self.path, self.trials)

    def propose(self) -> dict[str, Any]:
        """Returns what is to be tried next: first what params.yaml has."""
        import optuna

        if not self.trials:
            return {key: self.present[key] for key in self.space}
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = int(np.random.SeedSequence([self._folds.seed, len(self.trials)]).generate_state(1)[0])
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.add_trials([self._as_optuna(trial) for trial in self.trials])
        found = study.ask(self._distributions).params
        return {key: _settled(self._distributions[key], found[key]) for key in self.space}

    def scores(self, values: dict[str, Any]) -> list[float]:
        """Returns the metric of each fold, as training with these settings writes it; UserError: it fails."""
        params = parse(self.head, self.present | values, self._kind)
        examples = replace(self.examples, features=self._features(params.features).values)
        trainer = contract.lookup(self.head).Trainer(examples, params, self._folds.seed)
        logits = cross_validation.cross_validate(trainer, self.metric).logits
        labels, weights, folds = examples.labels, examples.weights, examples.folds
        scales, keys = self._folds.temperature_scaling, np.empty(0)  # which are for what is written
        found = out_of_fold.calibrated(keys, labels, weights, logits, folds, scales)
        return [each[self.metric] for each in found.scores_by_fold]

    def merit(self, trial: Trial) -> float:
        """Returns the mean over the folds, as a number of which more is better; -inf where training failed."""
        if not trial["scores"]:
            return -np.inf
        return round(selection.merit(self.metric, float(np.mean(trial["scores"]))), cross_validation.EQUAL)

    def best(self) -> int:
        """Returns the number of the best trial, from 0; the first of equals."""
        return max(range(len(self.trials)), key=lambda number: (self.merit(self.trials[number]), -number))

    def _as_optuna(self, trial: Trial) -> "optuna.trial.FrozenTrial":
        import optuna

        params = {
            key: json.dumps(value) if isinstance(self.space[key], Choice) else value
            for key, value in trial["values"].items()
        }
        # What is pruned counts as worse than the rest; what failed would count for nothing, and be tried again.
        outcome = {"value": self.merit(trial)} if trial["scores"] else {"state": optuna.trial.TrialState.PRUNED}
        return optuna.trial.create_trial(params=params, distributions=self._distributions, **outcome)

    def _read(self) -> list[Trial]:
        remedy = "Delete it"
        trials: list[Trial] = guarded_files.read_json(self.path, list[Trial], remedy)
        try:
            for trial in trials:
                self._as_optuna(trial)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path} must hold settings that may be tried ({error}). {remedy}") from error
        folds = int(self.examples.folds.max()) + 1
        if any(len(trial["scores"]) not in (0, folds) for trial in trials) or (trials and not trials[0]["scores"]):
            raise UserError(f"{self.path} must hold a score of each fold. {remedy}")
        return trials

    def _fingerprint(self, features: cache.Features) -> str:
        """Returns a hex sha256 over what the scores depend on."""
        modules = contract.lookup(self.head).__file__, cross_validation.__file__, out_of_fold.__file__
        columns = features.labels, self.examples.folds, self.examples.weights
        made_of = {
            "code": source_code.sha256(source_code.closure([Path(str(module)) for module in modules])),
            "cross_validation": asdict(self._folds),
            "images": [artifacts.sha256_bytes("".join(features.keys).encode())]
            + [artifacts.sha256_bytes(column.tobytes()) for column in columns],
            "metric": self.metric,
            "section": self.present,
            "source": asdict(features.source),
        }
        return artifacts.sha256_bytes(artifacts.canonical_json(made_of).encode())


def distribution(key: str, part: Range | Choice, present: Any) -> "optuna.distributions.BaseDistribution":
    """Returns what Optuna draws a key from: the present value, too, where a range or a choice does not have it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(part, Choice):
        return CategoricalDistribution(tuple(dict.fromkeys(map(json.dumps, (*part.values, present)))))
    if isinstance(present, bool) or not isinstance(present, int | float) or (part.log and present <= 0):
        rule = "must be a number above 0" if part.log else "must be a number"
        raise UserError(f"`{key}` {rule} where the search begins. Received: {present!r}")
    kind = IntDistribution if isinstance(part.low, int) else FloatDistribution
    return kind(min(part.low, present), max(part.high, present), log=part.log)


def _settled(drawn_from: Any, value: Any) -> Any:
    """Returns a drawn value as params.yaml has it: a number with few digits, a choice no longer as JSON text."""
    if isinstance(value, str):
        return json.loads(value)
    if isinstance(value, int):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), drawn_from.low), drawn_from.high)
