"""The pages as HTML: what a template needs, put together; every value is escaped by Jinja2."""

import base64
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from app import web_images
from app.explanation import Answer, thumbnail
from app.model_cache import knows_imagenet, weights_are_here
from app.models import Project
from stages.library.combination import combined
from stages.library.common import tables
from stages.library.common.model_names import COMBINED, FINETUNED
from stages.library.figures import charts
from stages.library.records import dataset_file
from stages.library.records import manifest as manifests
from stages.library.report import leaderboard
from stages.library.report import page as report_page
from stages.library.report.leaderboard import Result

ASSETS = Path(__file__).parent / "web_assets"
EXAMPLES = 12


class Example(NamedTuple):
    """A test image to try."""

    encoded: bytes  # JPEG or PNG
    thumbnail: bytes  # PNG
    name: str  # of its class


class Pages:
    """Renders all pages of a project, which is read when the server starts.

    Of models to choose, `trained` and `pretrained` have what a person reads by full name; in `models` the default is
    first. `assets` are what the pages load, with its type.
    """

    def __init__(self, project: Project, max_upload_bytes: int, max_pixels: int):
        self.examples = read_examples(project.root / "data" / "tfrecord", EXAMPLES)
        self._results, self._selected_by = project.results(), project.selected_by
        self.trained = {
            result.name: described(result)
            for result in self._results
            if all(weights_are_here(project, name) for name in pretrained(project, result))
        }
        backbones = project.settings["backbones"]
        self.pretrained = {f"imagenet/{name}": name for name in backbones if knows_imagenet(project, name)}
        self.models = [*self.trained, *self.pretrained]
        dataset = project.root / "data" / "tfrecord" / "dataset.json"
        about = dataset_file.read(dataset) if dataset.is_file() else None
        self._classes, self._records = about["classes"] if about else (), dataset.parent
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {"data_url": data_url, "percent": charts.percent}
        self._environment.globals.update(
            root="",
            mends=False,
            title=report_page.title(about["name"], project.settings["dataset"].folder) if about else "Decant",
            facts=report_page.facts(about) if about else "",
            limits=f"at most {max_upload_bytes / 1e6:g} MB and {max_pixels / 1e6:g} megapixels",
            max_upload_bytes=max_upload_bytes,
        )
        self.assets = {
            "page.css": (report_page.CSS + (ASSETS / "page.css").read_text(encoding="utf-8"), "text/css"),
        } | {
            f"{name}.js": ((ASSETS / f"{name}.js").read_text(encoding="utf-8"), "text/javascript")
            for name in ("page", "several", "camera", "mend")
        }

    def classify(
        self, model: str, answer: Answer | None = None, error: str = "", example: int | None = None, source: str = ""
    ) -> str:
        """Returns the first page: the model's name, an answer or an error, an example's index or a file's name."""
        return self._environment.get_template("classify.html").render(
            page="classify",
            model=model,
            groups={
                "Trained here, best first; accuracy on test images": self.trained,
                "ImageNet's classes": self.pretrained,
            },
            examples=self.examples,
            example=example,
            answer=answer,
            error=error,
            source=source,
            actual=self.examples[example].name if example is not None else "",
        )

    @functools.cached_property
    def leaderboard(self) -> str:
        """The page with the table of all models and their confusion matrices; made once, in seconds."""
        return self._environment.get_template("leaderboard.html").render(
            page="leaderboard",
            headings=leaderboard.headings(self._selected_by),
            rows=[leaderboard.cells(result, self._selected_by) for result in self._results],
            note=leaderboard.NOTE,
            classes=self._classes,
            matrices=[self._matrix(result) for result in self._results],
        )

    def _matrix(self, result: Result) -> dict[str, Any]:
        """What stands of a model's confusions: a table of links where classes are few, else a picture and a list."""
        path = result.figures / "confusion.csv"
        cells = web_images.cells(path, self._classes)
        rows = web_images.matrix(cells, self._classes)
        picture = b"" if rows else charts.confusion(tables.read_csv(path, tables.CONFUSION))
        return {"model": result.name, "rows": rows, "picture": picture, "pairs": web_images.most_confused(cells)}

    def images(self, model: str, actual: int | None, predicted: int | None) -> str | None:
        """Returns the page with test images of a class, or taken for one, or both; None: there is no such page."""
        wanted = [number for number in (actual, predicted) if number is not None]
        figures = {result.name: result.figures for result in self._results}.get(model)
        if figures is None or not wanted or max(wanted) >= len(self._classes):
            return None
        found = web_images.find(figures / "predictions.parquet", self._records, self._classes, actual, predicted)
        of = "" if actual is None else self._classes[actual]
        taken = "" if predicted is None or predicted == actual else f"taken for {self._classes[predicted]}"
        right = "classified correctly" if actual == predicted else ""
        return self._environment.get_template("images.html").render(
            page="leaderboard",
            model=model,
            images=found[0],
            total=found[1],
            said=", ".join(filter(None, (of, taken, right))),
        )

    def offer_mending(self) -> None:
        """Makes every page lead to the one that mends labels."""
        self._environment.globals["mends"] = True

    def part(self, template: str, **values: Any) -> str:
        """Returns what a template makes of some values."""
        return self._environment.get_template(template).render(**values)

    def message(self, text: str, root: str) -> str:
        """Returns a page that says what went wrong; `root` leads from its address to the first page's folder."""
        return self._environment.get_template("message.html").render(page="", text=text, root=root)


def pretrained(project: Project, result: Result) -> set[str]:
    """Returns the backbones whose published weights a model needs, a joined one by its whole name."""
    if result.name.startswith(f"{COMBINED}/"):
        names = [member["name"] for member in combined.load(project.folder(result.name)).members]
        return {name.partition("/")[0] for name in names if not combined.is_network(name)}
    return set() if result.model == FINETUNED or not result.backbone else {result.backbone}


def described(result: Result) -> str:
    """Returns a model and its accuracy as a line to choose it by."""
    return f"{charts.percent(result.metrics['top1_accuracy'])} {result.name}"


def read_examples(shards: Path, count: int) -> list[Example]:
    """Returns test images of as many classes as possible, spread evenly over the split; none before any training."""
    if not (shards / "dataset.json").is_file():
        return []
    manifest = manifests.read(shards, ["test"])
    order = np.argsort(manifest.labels, kind="stable")
    labels = manifest.labels[order]
    ranks = np.arange(len(order)) - np.searchsorted(labels, labels)  # within each class
    rows: list[int] = []
    for rank in range(count):
        candidates = order[ranks == rank]
        places = np.linspace(0, len(candidates) - 1, min(count - len(rows), len(candidates))).round().astype(int)
        rows += candidates[places].tolist()
    found = manifest.records(rows)
    return [Example(record.encoded, thumbnail(record.encoded), record.text) for record in found]


def data_url(png: bytes) -> str:
    """Returns a PNG as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
