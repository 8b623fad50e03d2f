"""JSON and CSV of our own: values of other types, and what an editor, a merge or a careless writer leaves in them."""

import csv
import io
import json
import random
from collections.abc import Sequence
from typing import Any

HOLE = "\ue000hole"  # where text that is no value of Python's is put
# In place of any value.
VALUES = (
    "null", "true", "false", "0", "-1", "1", "7", "2.5", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-999",
    "-0.0",
    "9" * 30, "9" * 5000, "1." + "9" * 5000, '""', '"x"', '"\\u0000"', '"\\ud800"', '"<!--</script>"', '"=1+1"',
    '"\\u001b[2J"',
    '"../../etc/passwd"', '"/dev/zero"', '"1"', '"NaN"', f'"{"x" * 70_000}"', "[]", "{}", "[[]]", "[null]", "[1, 2]",
    '["a", "a"]',
    '[["a"]]', '{"": {}}', '{"a": 1, "a": 2}', '{"a": {"b": []}}', "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000,
    '{"a": ' * 900 + "1" + "}" * 900, '{"a": ' * 100_000 + "1" + "}" * 100_000, "[1,]", "'x'", "x", "1 2", "", "\\",
    '"\\x"', "01",
    "+1", ".5", "1_000", "0x10", '"\n"', '"\x00"', "<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> other", "// comment\n1",
    "\ufeff1",
    "undefined", "18446744073709551616", "9223372036854775808", "1e308", "0.1e1", '"2001-01-01"',
)  # fmt: skip
CELLS = (
    "", "x", "0", "-1", "1e999", "nan", "inf", "9" * 5000, "1_000", "٣", "=1+1", "@x", "\t-1", "\x1b[2J", "a\nb", 'a"b',
    "\0",
    "x" * 200_000, "<!--", "1,2", " 1", "1.5", "None", "\ufeff", "\r", "\ud800",
)  # fmt: skip
MARKERS = "<<<<<<< HEAD", "=======", ">>>>>>> other"


def _places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of each value within a document, the document's own first."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(place for key, inner in items[:50] for place in _places(inner, (*path, key)))]


def replaced(document: Any, path: Sequence[Any], text: str) -> str:
    """Returns a document's text with other text in place of one value."""
    if not path:
        return text
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = HOLE
    return json.dumps(copy, ensure_ascii=False, indent=2).replace(f'"{HOLE}"', text)


def _keys(document: Any, path: Sequence[Any], rng: random.Random) -> str:
    """Removes a key, or gives one twice or under another name."""
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    if not path or not isinstance(parent, dict):
        return replaced(document, path, rng.choice(VALUES))
    value = parent.pop(path[-1])
    kind = rng.randrange(3)
    if kind == 1:
        parent[rng.choice(("", "x", path[-1] + " ", "__class__", "\x1b[2J", path[-1].upper()))] = value
    if kind == 2:
        parent[HOLE] = value
        twice = f"{json.dumps(path[-1])}: {rng.choice(VALUES)}, {json.dumps(path[-1])}"
        return json.dumps(copy, ensure_ascii=False).replace(f'"{HOLE}"', twice)
    return json.dumps(copy, ensure_ascii=False, indent=2)


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a JSON document after one change; one that does not parse comes with a marker of a merge."""
    try:
        document = json.loads(content)
        path = rng.choice(_places(document))
    except (ValueError, RecursionError):
        lines = content.split(b"\n")
        lines.insert(rng.randint(0, len(lines)), rng.choice(MARKERS).encode())
        return b"\n".join(lines)
    text = _keys(document, path, rng) if rng.random() < 0.3 else replaced(document, path, rng.choice(VALUES))
    return text.encode(errors="surrogatepass")


def change_csv(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a table after one change."""
    text = content.decode(errors="surrogateescape")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:  # a field that is too long, after an earlier change
        rows = []
    if not rows:
        return content
    at, kind = rng.randrange(len(rows)), rng.randrange(7)
    row = rows[at]
    if kind < 3 and row:
        row[rng.randrange(len(row))] = rng.choice(CELLS)
    elif kind == 3:
        row.append(rng.choice(CELLS))
    elif kind == 4 and row:
        del row[rng.randrange(len(row))]
    elif kind == 5:
        del rows[at]
    else:
        rows.insert(at, rng.choice((row, [], [rng.choice(MARKERS)], [rng.choice(CELLS)] * 999)))
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    return out.getvalue().encode(errors="surrogatepass")


def hostile(document: bytes) -> list[bytes]:
    """Returns a document with each of the values in the place of itself and of each value in its first level."""
    content = json.loads(document)
    paths = [path for path in _places(content) if len(path) < 2]
    return [replaced(content, path, text).encode(errors="surrogatepass") for path in paths for text in VALUES]
