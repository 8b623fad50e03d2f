"""DVC's command line, whose web page of plots takes no data and no name for code.

DVC puts the rows of a table into a script of the page, and the names of files into its HTML, both as they are. In a
pull request they are other people's: a class named </script> would end the script, and what follows it would run.
"""

import html
import json
import re
import sys
from typing import Any

from dvc_render import ImageRenderer, VegaRenderer  # type: ignore[import-untyped]
from dvc_render.base import Renderer  # type: ignore[import-untyped]

image_html = ImageRenderer.partial_html


def escaped_table(table: Any, **kwargs: Any) -> str:
    """Returns JSON for a script, which nothing in it can end but "<"."""
    return json.dumps(table.get_filled_template()).replace("<", r"\u003c")


def escaped_image(image: Any, **kwargs: Any) -> str:
    """Returns an image of each revision, under the name of its file."""
    image.datapoints = [{key: html.escape(str(value)) for key, value in point.items()} for point in image.datapoints]
    image.name = html.escape(image.name)
    return str(image_html(image, **kwargs))


if __name__ == "__main__":
    from dvc.cli import main  # type: ignore[import-untyped]

    VegaRenderer.partial_html, ImageRenderer.partial_html = escaped_table, escaped_image
    Renderer.remove_special_chars = staticmethod(lambda name: re.sub(r"[^0-9A-Za-z-]", "_", name))
    sys.exit(main(sys.argv[1:]))
