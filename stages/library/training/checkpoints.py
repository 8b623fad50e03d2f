"""Training that survives a kill: after every epoch its whole state is on disk, and the next run goes on from there.

They stand in the user's cache folder, for DVC deletes a stage's outs before it runs it. The folder's name is a
fingerprint of all that the training depends on, so a changed parameter or data set starts anew.
"""

import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, cast

import pydantic
from typing_extensions import TypedDict

from stages.library.common import artifacts, guarded_files, source_code
from stages.library.common.console import UserError
from stages.library.networks import keras_files
from stages.library.scoring.selection import SelectionMetric, merit

if TYPE_CHECKING:
    import keras

Logs = dict[str, float]
LOGS = {"top1_accuracy": "val_accuracy"}  # metric of selection -> Keras's name of it
HDF5_BYTES_PER_VARIABLE = 4096  # at most, around what is in it


@pydantic.with_config(extra="allow")
class Epoch(TypedDict):
    """The metrics of an epoch; of epoch 0, which is no training, those of validation alone."""

    accuracy: NotRequired[float]
    loss: NotRequired[float]
    val_accuracy: float
    val_loss: float


class State(TypedDict):
    """Content of state.json; `sha256` is by file name."""

    history: Annotated[list[Epoch], pydantic.Field(min_length=1)]
    random_states: list[list[int]]
    sha256: dict[str, str]


def fingerprint(*content: Any) -> str:
    """Returns a sha256 over some JSON values, all code of the pipeline, and the versions that the state depends on."""
    code = source_code.sha256(Path(__file__).parents[2].rglob("*.py"))
    versions = {package: version(package) for package in ("keras", "tensorflow")}
    return artifacts.sha256_bytes(artifacts.canonical_json([*content, code, versions]).encode())


class Checkpoints:
    """The checkpoint folder of one training, and how far it has come.

    A kill at any instant leaves `state.json` pointing at whole files: new ones are written before it, old ones removed
    after it. `model` is saved for use, `trainer`, which shares its layers, with its optimizer. Epoch 0 is the network
    as it comes: what fine-tuning makes worse is thrown away (Kumar et al. 2022, arXiv:2202.10054).
    """

    def __init__(self, folder: Path, model: "keras.Model", trainer: "keras.Model", selected_by: SelectionMetric):
        self.folder, self._model, self._trainer, self._selected_by = folder, model, trainer, selected_by
        self.history: list[Logs] = []  # of each epoch, as `Epoch` says

    @property
    def best(self) -> int:
        """The epoch that is best in validation by the metric of selection; among equals the one of the lowest loss."""
        key = LOGS.get(self._selected_by, f"val_{self._selected_by}")
        scores = [(merit(self._selected_by, logs[key]), -logs["val_loss"]) for logs in self.history]
        return scores.index(max(scores))

    @property
    def finished(self) -> int:
        """The number of epochs of training."""
        return max(len(self.history) - 1, 0)

    def __str__(self) -> str:
        accuracy = self.history[self.best]["val_accuracy"]
        return f"best epoch {self.best} of {self.finished}, validation accuracy {accuracy:.4f}"

    def restore(self) -> None:
        """Brings the training to where it was left."""
        path = self.folder / "state.json"
        if not path.exists():
            return
        remedy = f"Remove {self.folder} to train from the start"
        state: State = guarded_files.read_json(path, State, remedy)
        self.history = [cast("Logs", dict(sorted(epoch.items()))) for epoch in state["history"]]  # as `save` has them
        self._trainer.optimizer.build(self._trainer.trainable_variables)
        try:
            for weights, sha256 in state["sha256"].items():
                if artifacts.sha256_file(self.folder / weights) != sha256:
                    raise ValueError(f"{weights} does not have the sha256 in state.json")
            keras_files.restore(self._trainer, self._path("last", self.finished))
            for variable, value in zip(self._random_states(), state["random_states"], strict=True):
                variable.assign(value)
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.folder} holds no whole checkpoint ({reason}). {remedy}") from error

    def save(self, logs: Logs) -> None:
        """Keeps the state before the first or at the end of an epoch; the optimizer must be built."""
        self.history.append({name: float(value) for name, value in sorted(logs.items())})
        epoch, best = self.finished, self.best
        weights = {self._path("last", epoch), self._path("best", best)}
        _write(self._trainer, self._path("last", epoch))
        if best == epoch:
            _write(self._model, self._path("best", epoch))
        state = {
            "history": self.history,
            "random_states": [variable.numpy().tolist() for variable in self._random_states()],
            "sha256": {path.name: artifacts.sha256_file(path) for path in weights},
        }
        artifacts.write_json(self.folder / "state.json", state)
        for path in self.folder.iterdir():
            if path not in weights and path.name != "state.json":
                path.unlink()

    def export(self, folder: Path) -> None:
        """Writes `last.weights.h5` and `best.weights.h5` into a folder and leaves the network with the best ones."""
        _write(self._model, folder / "last.weights.h5")
        best = self._path("best", self.best)
        shutil.copyfile(best, folder / "best.weights.h5")
        self._model.load_weights(best)

    def remove(self) -> None:
        """Deletes the folder, when the outs are written."""
        (self.folder / "state.json").unlink(missing_ok=True)  # first: without the weights it would be a trap
        shutil.rmtree(self.folder, ignore_errors=True)

    def _random_states(self) -> list[Any]:
        """Returns the variables of dropout's random numbers, which Keras leaves out of its weight files."""
        return [variable for variable in self._trainer.variables if variable.path.endswith("seed_generator_state")]

    def _path(self, kind: str, epoch: int) -> Path:
        return self.folder / f"{kind}-{epoch:05d}.weights.h5"


def _write(model: "keras.Model", path: Path) -> None:
    """Writes the weights, and the optimizer's if there is one, as a whole or not at all."""
    variables = [*model.variables, *(model.optimizer.variables if getattr(model, "optimizer", None) else [])]
    # HDF5 prints tracebacks when it meets a full disk.
    size_bytes = sum(4 * math.prod(variable.shape) + HDF5_BYTES_PER_VARIABLE for variable in variables)
    path.parent.mkdir(parents=True, exist_ok=True)
    artifacts.require_room(path.parent, size_bytes)
    partial = path.with_name(f"partial-{path.name}")  # with the suffix on which Keras insists
    model.save_weights(partial)
    partial.replace(path)
