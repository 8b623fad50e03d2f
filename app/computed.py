"""Which metrics of a revision were computed from its own images and parameters, by its dvc.lock.

A run of some stages leaves the metrics of the others as they were: those of another data set, or of other parameters.
"""

import functools
import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.library.common.console import UserError

LOCK = Path("dvc.lock")
IMAGES = "images"  # stands among the parameters, as a run on other images is another run


def alone(shown: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Takes the other metrics out of what `dvc exp show --json` says, and adds a hash of the images; returns it."""
    for state in shown:
        _keep(state["rev"], state)
        for experiment in state.get("experiments") or ():
            _keep(experiment["revs"][0]["rev"], experiment["revs"][0])
    return shown


def _keep(rev: str, state: Mapping[str, Any]) -> None:
    data = state.get("data") or {}
    text = lock_of(rev) if data.get("metrics") else ""
    if not text:
        return
    stages = _stages(text, rev)
    params = {path: content.get("data") or {} for path, content in (data.get("params") or {}).items()}
    kept = computed(stages, params)
    data["metrics"] = {path: content for path, content in data["metrics"].items() if path in kept}
    for content in params.values():
        content[IMAGES] = images(stages)


def lock_of(rev: str) -> str:
    """Returns the text of a revision's dvc.lock; "" where it has none."""
    if rev == "workspace":
        return LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    command = ["git", "show", f"{rev}:./{LOCK}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    return done.stdout if done.returncode == 0 else ""


@functools.lru_cache(maxsize=256)
def _stages(text: str, rev: str) -> Mapping[str, Any]:
    try:
        stages: Mapping[str, Any] = YAML(typ="safe").load(text)["stages"]
    except (YAMLError, KeyError, TypeError) as error:
        where = f"{LOCK} of {rev[:9]} can't be read, as after a merge with conflicts"
        raise UserError(f"{where}. Take one side, then run: git checkout --ours {LOCK} && dvc repro") from error
    return stages


def computed(stages: Mapping[str, Any], params: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Returns the paths of the outs whose stage, and all before it, ran on what stands in the lock and in `params`.

    `stages` are those of a dvc.lock; `params` is what each file of parameters holds now.
    """
    made_by = {out["path"]: (name, out.get("md5")) for name, stage in stages.items() for out in stage.get("outs", ())}

    @functools.cache
    def holds(name: str) -> bool:
        stage = stages[name]
        asked = ((path, key, value) for path, keys in stage.get("params", {}).items() for key, value in keys.items())
        if any(_value(params.get(path, {}), key) != value for path, key, value in asked):
            return False
        for dep in stage.get("deps", ()):
            path = dep["path"]
            for out in {path, *map(str, Path(path).parents)} & made_by.keys():
                maker, md5 = made_by[out]
                if not holds(maker) or (out == path and md5 != dep.get("md5")):
                    return False
        return True

    return {path for path, (name, _) in made_by.items() if holds(name)}


def images(stages: Mapping[str, Any]) -> str:
    """Returns a short hash of what the data set is made of, beside code and the archives that have a hash anyway."""
    outs = {out["path"] for stage in stages.values() for out in stage.get("outs", ())} - {"data/inputs.json"}
    deps = [dep for name in ("fetch", "tfrecord") for dep in stages.get(name, {}).get("deps", ())]
    found = {dep["path"]: dep.get("md5") for dep in deps if dep["path"] not in outs}
    hashes = sorted({str(md5) for path, md5 in found.items() if not path.startswith("stages/")})
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:7]


def _value(content: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
