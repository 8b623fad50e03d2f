"""Compares metrics, parameters and plots of two revisions for a pull request.

Writes a comment and images. Exit status 1 where a revision can't be read or
a gate fails: --max-drop for metrics of which more is better, --max-rise for
log_loss and calibration errors. A model that vanishes breaks any gate while
params.yaml still lists it; one that was taken out is named, and not compared.

example: python -m app.pr_report --base main --max-drop top1_accuracy=0.01
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from app import place
from app.pull_request import comment
from stages.library.common import artifacts, console
from stages.library.common.console import UserError

DVC = Path(__file__).parent / "pull_request" / "escaped_dvc.py"
OURS = {"comment.md", "images", "plots"}  # all that is ever written to the output folder
WEB_ADDRESS = re.compile(r"https?://(?![/?#])[^\s()<>\[\]\"'\\`]+", re.IGNORECASE)  # fits a link of Markdown


def main() -> None:
    """Runs the program."""
    arguments = parse_arguments()
    clear(arguments.out)
    path = arguments.out / "comment.md"
    try:
        text, failures = compare(arguments)
    except UserError as error:
        reason = f"**Not compared:** {comment.code(error, 600)}"
        artifacts.write_bytes(path, comment.render(arguments.base, arguments.head, reason).encode())
        raise
    artifacts.write_bytes(path, text.encode())
    console.say(f"Read {path}, or post it: gh pr comment --body-file {path}")
    for failure in failures:
        console.say(f"gate: {failure}", err=True)
    if failures:
        gates = "a gate was" if len(failures) == 1 else f"{len(failures)} gates were"
        raise UserError(f"{gates} broken. The comparison: {path}")


def parse_arguments() -> argparse.Namespace:
    """Reads and checks the command line."""
    prog = "python -m app.pr_report"
    parser = console.Parser(prog=prog, usage=f"{prog} --base REV [options]", description=__doc__)
    parser.add_argument("--base", required=True, metavar="REV", help="branch, tag or commit to compare with")
    parser.add_argument("--head", default="workspace", metavar="REV", help="what is compared (default: workspace)")
    parser.add_argument("--out", type=Path, default=Path("pr-report"), metavar="DIR", help="(default: pr-report)")
    parser.add_argument("--max-drop", action="append", default=[], metavar="M=X", help="how far metric M may fall")
    parser.add_argument("--max-rise", action="append", default=[], metavar="M=X", help="how far metric M may rise")
    parser.add_argument("--no-plots", dest="plots", action="store_false", help="the comment alone")
    parser.add_argument("--link", metavar="URL", help="where readers of the comment find the folder")
    arguments = parser.parse_args()
    if arguments.base == "workspace":
        parser.error("--base must be a revision, and not the workspace")
    if arguments.link is not None and not WEB_ADDRESS.fullmatch(arguments.link):
        parser.error(f"--link must be a http or https URL without spaces and brackets. Received: {arguments.link!r}")
    return arguments


def clear(folder: Path) -> None:
    """Makes the output folder without what an earlier run left there; raises UserError where it holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out must be a folder. Received: {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    if foreign := sorted({path.name for path in folder.iterdir()} - OURS):
        raise UserError(f"--out must be new, or an earlier report. Received: {str(folder)!r}, which has {foreign[0]!r}")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def compare(arguments: argparse.Namespace) -> tuple[str, list[str]]:
    """Draws the images; returns the comment and what breaks the gates."""
    place.check_history()
    console.say(f"pr-report: reading {arguments.base} and {arguments.head}")
    from app.pull_request import gates, images, revisions

    limits = gates.parse(arguments.max_drop, arguments.max_rise)
    repository = revisions.open_repository()
    # The workspace first, for a conflict in it is the nearest fault.
    head, base = (revisions.read(repository, name) for name in (arguments.head, arguments.base))
    failures, gone = gates.judge(base, head, limits)
    console.say(*(f"pr-report: {file} is not compared: the pipeline no longer makes it" for file in gone))
    changed = images.changed(base, head)
    drawn = images.draw(arguments.out, changed, base, head) if arguments.plots else []
    page = plots_page(arguments, changed) if arguments.plots else None
    metrics = revisions.differences(repository.metrics.diff, "Metric", base, head)
    params = revisions.differences(repository.params.diff, "Param", base, head)
    first = {"top1_accuracy", "log_loss"} | {limit.key for limit in limits}
    console.say(f"pr-report: {len(metrics)} metrics and {len(changed)} plots differ, {len(failures)} gates broken")
    text = comment.render(
        base.title,
        head.title,
        comment.verdict(limits, failures, gone),
        comment.table("metric", [row for row in metrics if row[1] in first], base.name),
        comment.folded("metric", sorted(metrics, key=lambda row: row[1].startswith("classes.")), base.name),
        comment.folded("parameter", params, base.name),
        comment.plots((base, head), changed, drawn, page, arguments.link),
    )
    return text, failures


def plots_page(arguments: argparse.Namespace, files: list[str]) -> str | None:
    """Writes the page of `dvc plots diff` for the plots that differ; returns its path in the output folder, or None."""
    files = [file for file in files if not file.startswith("-")]  # the pull request named them
    if not files:
        return None
    names = [arguments.base] + ([] if arguments.head == "workspace" else [arguments.head])
    command = ["plots", "diff", "--quiet", "--out", str(arguments.out / "plots"), *names, "--targets", *files]
    subprocess.run([sys.executable, "-P", str(DVC), *command], check=False)  # noqa: S603 - no shell, checked names
    return "plots/index.html" if (arguments.out / "plots/index.html").is_file() else None


if __name__ == "__main__":
    console.run(main)
