"""The chart of few-shot results, those of others beside ours."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from stages.library.figures.charts import BLUE, DARK_GREY, GREEN, GREY, ORANGE, PURPLE, VERMILION, png, style
from stages.library.report.fewshot_results import FewShot
from stages.library.report.published import Row

HEADS = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v")]  # repeats beyond five
PUBLISHED = "o", "^", "D", "s"  # hollow


def few_shot(found: Sequence[FewShot], published: Sequence[Row]) -> bytes:
    """Draws accuracy against training images per class, a line per head with the standard deviation over the repeats.

    Args:
      found: few-shot results on the features of one backbone; with and without background, a panel each.
      published: results on the same data set; those with few images of all classes are hollow markers without a line.
    """
    titles = {"with": "all classes", "without": "without background classes"}
    panels = [title for title in titles if any(few.background == title for few in found)] or ["with"]
    heads = list(dict.fromkeys(few.head for few in found))
    published = [row for row in published if row.shots]
    systems = list(dict.fromkeys((row.system, row.source) for row in published))
    sizes = sorted({few.shots for few in found} | {row.shots for row in published if row.shots}) or [0]
    step = 0.012 * (sizes[-1] - sizes[0] or 1)  # between the series, so that error bars don't hide each other
    with style():
        figure = Figure(figsize=(1.2 + 4.3 * len(panels), 5), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            for i, head in enumerate(heads):
                own = [few for few in found if (few.head, few.background) == (head, panel)]
                points = [[few.numbers["top1_accuracy"][part] for few in own] for part in ("mean", "std")]
                color, marker = HEADS[i % len(HEADS)]
                x = [few.shots + (i - (len(heads) - 1) / 2) * step for few in own]
                axes.errorbar(x, *points, color=color, marker=marker, markersize=5, capsize=3, label=head)
            for i, system in enumerate(systems if panel == "with" else []):
                theirs = [row for row in published if (row.system, row.source) == system]
                x = [(row.shots or 0) - (i + 1 + len(heads) / 2) * step for row in theirs]
                points = [[row.value for row in theirs], [row.std or 0 for row in theirs]]
                label, marker = f"published: {system[0]}, {system[1]}", PUBLISHED[i % len(PUBLISHED)]
                look = {"color": DARK_GREY, "linestyle": "", "markersize": 6, "markerfacecolor": "white"}
                axes.errorbar(x, *points, marker=marker, label=label, elinewidth=1, capsize=2, **look)
            axes.set_xticks(sizes)
            axes.yaxis.set_major_formatter("{x:.1%}")
            axes.grid(axis="y", color=GREY, linewidth=0.5, alpha=0.6)
            axes.set(xlabel="training images per class", title=titles[panel] if len(panels) > 1 else "")
        grid[0].set_ylabel("test top-1 accuracy ± 1 standard deviation")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(panels), fontsize=8)
        return png(figure)
