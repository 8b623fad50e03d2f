"""The map as one HTML page that works offline: data, pictures, style and script are inside, nothing is loaded.

Class and file names are other people's text. They stand in a block of JSON, in which no "<" is left, and the script
shows them as text alone. The page's own policy lets no other script run, and no request go out.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.library.mapping.layout import DIGITS
from stages.library.mapping.tiles import COLUMNS, Sheets

CSS, *SCRIPTS = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "controls.js")
)
SCRIPT = "".join(SCRIPTS)
FINEST = 1 << 10  # cells a side, by which images are put in order


class Colouring(NamedTuple):
    """What points can be coloured by: a category of each image, int (n,); `quiet`, where there is one, is in grey."""

    name: str
    categories: Sequence[str]
    of: np.ndarray
    quiet: int | None = None


def order(places: np.ndarray) -> np.ndarray:
    """Returns rows, int64 (n,), in which neighbours on the map, (n, 2) in [0, 1], mostly follow each other.

    So the pictures of a part of the map are on few sheets, and a browser decodes no others: Morton's curve.
    """
    cells = np.minimum(places * FINEST, FINEST - 1).astype(np.int64)
    code = np.zeros(len(cells), np.int64)
    for bit in range(FINEST.bit_length()):
        for axis in range(2):
            code |= (cells[:, axis] >> bit & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")


def render(
    title: str,
    facts: str,
    names: Sequence[str],
    places: np.ndarray,
    colourings: Sequence[Colouring],
    predictions: Sequence[str],
    sheets: Sheets,
) -> str:
    """Returns the page of images with these file names and `predictions`, each a line of text, at places (n, 2).

    All are in the order of the tiles on `sheets`.
    """
    said, prediction = np.unique(np.array(predictions, object), return_inverse=True)
    data = {
        "names": list(names),
        "x": np.round(places[:, 0] * 10**DIGITS).astype(int).tolist(),
        "y": np.round(places[:, 1] * 10**DIGITS).astype(int).tolist(),
        "one": 10**DIGITS,
        "colourings": [each._asdict() | {"of": each.of.tolist()} for each in colourings],
        "predictions": {"texts": said.tolist(), "of": prediction.tolist()},
        "side": sheets.side_px,
        "columns": COLUMNS,
        "sheets": [base64.b64encode(sheet).decode() for sheet in sheets.images],
    }
    policy = f"default-src 'none'; img-src data:; style-src {_hash(CSS)}; script-src {_hash(SCRIPT)}; base-uri 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
</header>
<main>
<div class="bar">
<label>Colour by <select id="by"></select></label>
<button type="button" id="closer">Closer</button><button type="button" id="wider">Wider</button>
<button type="button" id="whole">Whole map</button>
</div>
<div class="both">
<div id="frame" tabindex="0" role="application" aria-label="Map of {len(names):,} images" aria-describedby="keys">
<canvas id="map" aria-hidden="true"></canvas></div>
<section id="shown" aria-label="The image" aria-live="polite"><canvas id="picture" role="img" hidden></canvas>
<p id="hint" class="soft">Point at an image, tap it, or go to the map and press an arrow key.</p><dl id="facts"></dl>
</section>
<section id="kinds" aria-label="What the colours mean"><h2 id="kind"></h2>
<p class="soft">Choose some to grey the others.</p><ul id="legend"></ul></section>
</div>
<p id="keys" class="soft">Wheel, + and - or two fingers: closer and wider; where few are left, they are shown as
pictures. Drag, or Shift and an arrow key: move the map. Arrow keys: the next image in that direction. 0: the whole map.
Escape: no image.</p>
<p class="soft">{escape(facts)}</p>
</main>
<script type="application/json" id="data">{_json(data)}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _json(content: object) -> str:
    """Returns ASCII in which no element can begin or end; lone surrogates, of names that are no UTF-8, are escaped."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", r"\u003c")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
