"""The model card: README.md with front matter as Hugging Face's Hub reads it, and what people should know of a model.

Class and folder names are other people's text: in the front matter they are JSON strings, which YAML takes, too; in the
text nothing of them is Markdown or HTML.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from app.exporting.formats import Format
from stages.library.common.console import count, in_a_line
from stages.library.records.dataset_file import Dataset, Split
from stages.library.report import leaderboard
from stages.library.scoring.metrics import wilson_interval

LIBRARIES = {"onnx": "onnx", "tflite": "tflite", "saved_model": "tensorflow"}
IDENTIFIERS = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause", "CC-BY-4.0": "cc-by-4.0"}
# Data sets of `dataset.name`: where the Hub has them, and their licence as docs/licences.md says it.
DATASETS = {
    "digits": (None, "CC BY 4.0"),
    "cifar10": ("uoft-cs/cifar10", "not stated"),
    "cifar100": ("uoft-cs/cifar100", "not stated"),
    "caltech101": (None, "CC BY 4.0"),
    "caltech256": (None, "CC BY 4.0"),
    "fashion_mnist": ("zalando-datasets/fashion_mnist", "MIT"),
}
# Metrics key -> its name on the Hub, and as people read it.
METRICS = {
    "top1_accuracy": ("accuracy", "top-1 accuracy"),
    "top5_accuracy": ("accuracy", "top-5 accuracy"),
    "balanced_accuracy": ("accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "roc_auc": ("roc_auc", "ROC AUC, one class against the others, mean"),
    "log_loss": ("log_loss", "log loss, nats"),
    "expected_calibration_error": ("expected_calibration_error", "expected calibration error"),
}
WEAKEST, MOST_CLASSES = 10, 200  # of which the card has a row each


class Facts(NamedTuple):
    """What a card says of a model and its data."""

    model: str
    classes: Sequence[str]
    backbones: Sequence[str]
    licences: Sequence[str]  # of pretrained weights, each once; none for a network trained from scratch
    metrics: Mapping[str, Any] | None  # the metrics file; None: the model was not tested here
    dataset: Dataset | None  # None: it is the pretrained network as it is, with ImageNet's classes
    data: str  # name of the data set, or of people's own folder
    unlike_below: float = 0.0  # share of known images farther out below which an image is unlike them; 0: not told


def render(facts: Facts, form: Format, size_bytes: int) -> str:
    """Returns the file."""
    parts = [_front_matter(facts, form), _what(facts, form), _use(facts, form)]
    parts += [_data(facts, facts.dataset)] if facts.dataset else []
    parts += [_metrics(facts.metrics)] if facts.metrics else []
    parts += [_limits(facts), _licences(facts), _files(form, size_bytes)]
    return "\n\n".join(parts) + "\n"


def text(name: str) -> str:
    """Returns other people's text in a line of Markdown that shows it as it is."""
    return html.escape(cell(name), quote=False).replace("|", r"\|")


def cell(name: str) -> str:
    """Returns the same for a table, whose writer does the rest."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!~$:@])", r"\\\1", in_a_line(name))


def _front_matter(facts: Facts, form: Format) -> str:
    content: dict[str, Any] = {
        **_licence(facts.licences),
        "library_name": LIBRARIES[form.name],
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "decant", form.name, *facts.backbones],
    }
    hub, _ = DATASETS.get(facts.dataset["name"], (None, "")) if facts.dataset else ("ILSVRC/imagenet-1k", "")
    content |= {"datasets": [hub]} if hub else {}
    if facts.metrics and facts.dataset:
        metrics = [(key, *METRICS[key]) for key in METRICS if key in facts.metrics]
        content["metrics"] = list(dict.fromkeys(kind for _, kind, _ in metrics))
        measured = {
            "task": {"type": "image-classification", "name": "Image Classification"},
            "dataset": {"type": hub or _slug(facts.data), "name": in_a_line(facts.data), "split": "test"},
            "metrics": [{"type": kind, "name": name, "value": facts.metrics[key]} for key, kind, name in metrics],
        }
        content["model-index"] = [{"name": facts.model, "results": [measured]}]
    return "---\n" + "\n".join(_yaml(content)) + "\n---"


def _yaml(content: Any, indent: str = "") -> Iterable[str]:
    """Yields lines of YAML for nested mappings and lists; a list has at least one item."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, Mapping | list):
                yield f"{indent}{key}:"
                yield from _yaml(value, f"{indent}  ")
            else:
                yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
    else:
        for item in content:
            first, *rest = _yaml(item, f"{indent}  ") if isinstance(item, Mapping) else [json.dumps(item)]
            yield f"{indent}- {first.strip()}"
            yield from rest


def _licence(licences: Sequence[str]) -> dict[str, str]:
    """Returns what the Hub takes: one that it knows, or "other" with a name; a network from scratch has none yet."""
    if not licences:
        return {"license": "unknown"}
    if len(licences) == 1 and licences[0] in IDENTIFIERS:
        return {"license": IDENTIFIERS[licences[0]]}
    return {"license": "other", "license_name": _slug(" and ".join(licences))}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "own"


def _what(facts: Facts, form: Format) -> str:
    kinds = f"Classifies images into {len(facts.classes):,} classes"
    base = f", on {', '.join(facts.backbones)}" if facts.backbones else ", trained from scratch"
    listed = ", ".join(map(text, facts.classes[:MOST_CLASSES]))
    more = f" and {len(facts.classes) - MOST_CLASSES:,} more" if len(facts.classes) > MOST_CLASSES else ""
    return f"# {text(facts.model)}\n\n{kinds}{base}. Made with Decant, as {form.name}.\n\nClasses: {listed}{more}."


def _use(facts: Facts, form: Format) -> str:
    extra = (UNLIKE if facts.unlike_below else "") + (SIGNATURES if form.name == "saved_model" else "")
    return f"""## How to use

    pip install {" ".join(form.runs_with)}
    python predict.py image.jpg

`{form.file}` takes RGB pixels and gives the probabilities of all classes, whose names are in `labels.txt`, one a line.
Cropping, resizing and scaling are inside: give the image as it is, in any size.

- Input `pixels`: uint8 (n, height, width, 3), values 0 to 255, upright.
- Output `probabilities`: float32 (n, {len(facts.classes)}).{extra}

`predict.py` and `stages/`, which makes pixels of any image, are the whole code that is needed."""


UNLIKE = """
- Output `farther_out`: float32 (n,), the share of known images that lie farther out from the training images than this
  one. Where it is below `unlike_below` of `model.json`, the image is unlike all that the model was trained on, and the
  probabilities mean little."""
SIGNATURES = """
- The signature `encoded` takes JPEG or PNG files in place of pixels, strings (n,), as they come out of `normalise`."""


def _data(facts: Facts, dataset: Dataset) -> str:
    rows = [
        (split, f"{sum(counts.values()):,}", f"{min(counts.values()):,}", f"{max(counts.values()):,}")
        for split, counts in ((split, dataset["counts"][split]) for split in get_args(Split))
    ]
    table = leaderboard.as_markdown(("split", "images", "of the smallest class", "of the largest class"), rows)
    sides = ((low, high) for low, high in (dataset["shape"]["width_px"], dataset["shape"]["height_px"]))
    width, height = (f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in sides)
    return f"""## Data

{text(facts.data)}: {count(dataset["images"], "image")}, {width} by {height} px (width by height).

{table}
The test images took no part in training, nor in the choice of settings."""


def _metrics(metrics: Mapping[str, Any]) -> str:
    number = metrics["num_examples"]
    intervals = {"top1_accuracy": tuple(metrics["top1_accuracy_interval"][end] for end in ("low", "high"))}
    if "top5_accuracy" in metrics:
        intervals["top5_accuracy"] = wilson_interval(round(metrics["top5_accuracy"] * number), number)
    rows = [
        (name, f"{metrics[key]:.4f}", "{:.4f} to {:.4f}".format(*intervals[key]) if key in intervals else "")
        for key, (_, name) in METRICS.items()
        if key in metrics
    ]
    shown = f"## Metrics\n\nOn {count(number, 'test image')}.\n\n"
    shown += leaderboard.as_markdown(("metric", "value", "95% interval"), rows)
    if not (classes := metrics.get("classes")):
        return shown.rstrip()
    weakest = sorted(classes.items(), key=lambda item: (item[1]["recall"], item[0]))[:WEAKEST]
    lines = []
    for name, of in weakest:
        low, high = wilson_interval(round(of["recall"] * of["count"]), of["count"])
        lines.append((cell(name), f"{of['recall']:.4f}", f"{low:.4f} to {high:.4f}", f"{of['count']:,}"))
    table = leaderboard.as_markdown(("class", "recall", "95% interval", "test images"), lines)
    return f"{shown}\nClasses that are recognised least:\n\n{table}".rstrip()


def _limits(facts: Facts) -> str:
    lines = ["Each image gets one of these classes, whatever it shows: the model can't say that it is none of them."]
    if facts.unlike_below:
        lines = [
            "Each image gets probabilities of these classes, whatever it shows. `farther_out` tells what is unlike the "
            f"training images: below {facts.unlike_below:.1%}, the answer means little. It does not find all of them."
        ]
    if facts.metrics and facts.dataset:
        lines.append(
            "The metrics hold for images like those of the data set. Other cameras, places or times may give worse "
            "ones: test with images of your own."
        )
        error = facts.metrics.get("expected_calibration_error")
        lines += (
            [f"Probabilities differ from how often they are right by {error:.4f} in the mean, on test images."]
            if error
            else []
        )
        if across := facts.dataset["duplicates"]["across_official_split"]:
            lines.append(f"Copies in both training and test images, which make the metrics better: {across:,}.")
    else:
        lines.append("It was not tested here.")
    lines.append("It was not tested for bias between groups of people, nor for use where a mistake does harm.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _licences(facts: Facts) -> str:
    weights = ", ".join(facts.licences) or "none, for the network was trained from scratch"
    lines = [f"Pretrained weights: {weights}.", "`predict.py` and `stages/`: Apache-2.0, see `stages/LICENSE`."]
    if facts.dataset:
        _, licence = DATASETS.get(facts.dataset["name"], (None, "that of whoever owns the images"))
        lines.insert(1, f"Data: {licence}.")
    return "## Licences\n\n" + "\n".join(f"- {line}" for line in lines)


def _files(form: Format, size_bytes: int) -> str:
    return f"""## Files

`{form.file}` ({size_bytes / 1e6:.1f} MB) and `labels.txt`; `model.json`: where the model comes from, versions, hashes
and all metrics; `predict.py`, `stages/` and `requirements.txt`: to run it."""
