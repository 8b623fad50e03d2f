"""DVC's command line, whose web page of plots takes no data and no name for code.

DVC puts the rows of a table into a script of the page, and the names of files into its HTML, both as they are. In a
pull request they are other people's: a class named </script> would end the script, and what follows it would run.
"""

import html
import json
import re
import sys
from typing import Any

import dvc_render  # type: ignore[import-untyped]
from dvc_render import ImageRenderer, VegaRenderer
from dvc_render.base import Renderer  # type: ignore[import-untyped]

IN_IDS = re.compile(r"[^0-9A-Za-z-]")


class Table(VegaRenderer):  # type: ignore[misc] # DVC has no types
    """A table, as JSON in a script: nothing in a script can end it but "<"."""

    def partial_html(self, **kwargs: Any) -> str:
        return json.dumps(self.get_filled_template()).replace("<", r"\u003c")


class Figure(ImageRenderer):  # type: ignore[misc]
    """An image of each revision, under the name of its file."""

    def partial_html(self, **kwargs: Any) -> str:
        points = [{key: html.escape(str(value)) for key, value in point.items()} for point in self.datapoints]
        return str(ImageRenderer(points, html.escape(self.name)).partial_html(**kwargs))


if __name__ == "__main__":
    from dvc.cli import main  # type: ignore[import-untyped]

    # DVC looks its renderers up where it uses them.
    dvc_render.VegaRenderer, dvc_render.ImageRenderer = Table, Figure
    Renderer.remove_special_chars = staticmethod(lambda name: IN_IDS.sub("_", name))
    sys.exit(main(sys.argv[1:]))
