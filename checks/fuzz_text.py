"""Text of our own, YAML, JSON and CSV, after changes that keep what is around them whole.

Values of other types, and what an editor, a merge or a careless writer leaves in a file.
"""

import copy
import csv
import functools
import io
import json
import operator
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

ENTRY = re.compile(r"^( *[a-z_0-9]+:) *([^#\n]*?)( *#.*)?$")
MOST_DEEP = 30_000
HOLE = "\ue000hole"  # where text that is no value of Python's is put
MARKERS = "<<<<<<< HEAD", "=======", ">>>>>>> other"
# In place of any value of JSON.
JSON_VALUES = (
    "null", "true", "false", "0", "-1", "1", "7", "2.5", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-999",
    "-0.0", "9" * 30, "9" * 5000, "1." + "9" * 5000, '""', '"x"', '"\\u0000"', '"\\ud800"', '"<!--</script>"', '"=1+1"',
    '"\\u001b[2J"', '"../../etc/passwd"', '"/dev/zero"', '"1"', '"NaN"', f'"{"x" * 70_000}"', "[]", "{}", "[[]]",
    "[null]", "[1, 2]", '["a", "a"]', '[["a"]]', '{"": {}}', '{"a": 1, "a": 2}', '{"a": {"b": []}}',
    "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000, '{"a": ' * 900 + "1" + "}" * 900,
    '{"a": ' * 100_000 + "1" + "}" * 100_000, "[1,]", "'x'", "x", "1 2", "", "\\", '"\\x"', "01", "+1", ".5", "1_000",
    "0x10", '"\n"', '"\x00"', "<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> other", "// comment\n1", "\ufeff1", "undefined",
    "18446744073709551616", "9223372036854775808", "1e308", "0.1e1", '"2001-01-01"',
)  # fmt: skip
# In place of any value of YAML: references, tags, keys, dates, numbers, text, depth.
YAML_VALUES: tuple[str, ...] = (
    "&a [*a]", "&a {k: *a}", "&a [x, *a, {y: *a}]", "*missing", "&a &b x", "& x", "*", "&a", "&a {*a : 1}", "!!int x",
    "!!float x", "!!bool 7", "!!null x", "!!timestamp x", "!!binary '*'", "!!binary AAAA", "!!set {a, b}",
    "!!omap [a: 1]", "!!omap {a: 1}", "!!pairs [a: 1]", "!!seq {a: 1}", "!!map [a]", "!!str [a]", "!unknown x", "! x",
    "!<x> 1", "!<", "!!", "!!python/object/apply:os.getpid []", "!%zz x", "!e!x 1", "!!int ''", "!!float ''",
    "!!int {}", "!!merge <<", "!!int 0x", "!!int 0b2", "!!int 1:99:x", "!!float 1:2", "!!value =",
    "!!timestamp 2001-99-99", "{[a, b]: 1}", "{{a: b}: 1}", "{? [a] : 1}", "{1: 2}", "{null: 1}", "{1.5: 1}",
    "{true: 1}", "{2001-01-01: 1}", "{a, b}", "{a: 1, a: 2}", "{<<: {a: 1}}", "{<<: [1, 2]}", "{<<: 1}",
    "{<<: [{a: 1}, {b: 2}]}", "{!!binary AAAA: 1}", "{.nan: 1}", "2001-13-45", "2001-02-30", "0000-00-00", "9999-12-31",
    "2001-01-01T25:61:61Z", "2001-01-01 1:1:1 +99:99", "2001-12-14t21:59:43.10-05:00",
    "2001-01-01T00:00:00.0000000000001Z", "1:30", "190:20:30.15", ".inf", "-.inf", ".nan", "1e999", "1e-999", "0o17",
    "0xFFFFFFFFFFFFFFFFFF", "0b101", "1_000", "_1", "-0", "+1", "0.0.0", "1e", "99999999999999999999", "9" * 5000,
    "-" + "9" * 4300, "0x" + "f" * 5000, "1." + "0" * 5000, "1" + ":0" * 3000, '"\\x"', '"\\xZZ"', '"\\u12"',
    '"\\uD800"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\q"', '"\\0"', '"\\e[31m"', '"', "'", "''", "@", "`", "%", "|",
    ">", "|9", "|+\n  x", ">-\n\n", "? x", "- x", ": x", "---", "...", "<<<<<<< HEAD", "x" * 70_000, "~", "\u202e",
    "\x85", "\u2028", "\ufeff", "\U0001f600", "'\t'", "\tx", "null", "yes", "No", "[", "]", "{", "}", "[]", "{}", "[,]",
    "[" * 500 + "]" * 500, "{a: " * 500 + "}" * 500, "[" * 5000, "[" * MOST_DEEP + "]" * MOST_DEEP, "- " * 3000 + "x",
    "? " * 500 + "x", "\n" + "\n".join(" " * n + "a:" for n in range(3, 900)),
)  # fmt: skip
YAML_LINES = (
    "%YAML 1.1\n---\n", "%YAML 1.2\n---\n", "%YAML 3.0\n---\n", "%YAML x\n---\n", "%TAG ! tag:x,2000:\n---\n",
    "%TAG !e! !\n---\n", "---\n", "...\n", "\n--- !!map\n", "<<: {a: 1}\n", "<<: *ridge\n", "? [a, b]\n: 1\n", "? a\n",
    "*a : 1\n", "[a, b]: 1\n", "{a: b}: 1\n", "null: 1\n", "~: 1\n", "1: 1\n", "2001-99-01: x\n", "<<<<<<< HEAD\n",
    "=======\n", ">>>>>>> other\n", "\tx: 1\n", "x:\ty\n", "- x\n", "a: b: c\n", "x\n", "\ufeff", "\0", "\x1b[2J\n",
    "# \x07\n", "&a a: *a\n", "!!set\n", "&a ? *a\n",
)  # fmt: skip
CELLS = (
    "", "x", "0", "-1", "1e999", "nan", "inf", "9" * 5000, "1_000", "٣", "=1+1", "@x", "\t-1", "\x1b[2J", "a\nb", 'a"b',
    "\0", "x" * 200_000, "<!--", "1,2", " 1", "1.5", "None", "\ufeff", "\r", "\ud800",
)  # fmt: skip


def aliases(depth: int, width: int) -> list[str]:
    """Returns lines whose last anchor stands for `width` to the power of `depth` items."""
    first = f"level_0: &level_0 [{', '.join(['x'] * width)}]"
    return [first, *(f"level_{n}: &level_{n} [{', '.join([f'*level_{n - 1}'] * width)}]" for n in range(1, depth))]


def change_yaml(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a YAML document after one change: of a value, an item, a line, an anchor and its aliases."""
    lines = content.decode(errors="surrogateescape").split("\n")
    value, at, way = rng.choice(YAML_VALUES), rng.randrange(len(lines)), rng.randrange(12)
    if way < 4:
        _set_entry(lines, rng, value)
    elif way < 6:  # in a list or mapping that a key has already
        some = [index for index, line in enumerate(lines) if ENTRY.match(line) and re.search(r"[\[{]", line)] or [at]
        at = rng.choice(some)
        lines[at] = lines[at].replace("[", f"[{value}, ", 1).replace("{", "{" + f"k: {value}, ", 1)
    elif way < 8:  # a line that stands nowhere in a file of ours, or one of its own with another indent
        own = lines[at], lines[at].strip(), f"- {lines[at]}"
        line = rng.choice(own) if way == 6 else rng.choice(YAML_LINES).rstrip("\n")
        lines.insert(rng.choice((0, at, len(lines))), rng.choice(("", "  ", "    ")) + line)
    elif way < 10:
        _set_entry(lines, rng, f"&there {HOLE}")
        for _ in range(rng.choice((1, 1, 5))):
            _set_entry(lines, rng, rng.choice(("*there", "[*there, *there]", "{<<: *there}", "{*there : 1}")))
    elif way == 10:
        depth, width = rng.choice(((2, 3), (4, 9), (9, 9), (30, 2), (90, 2), (3, 200)))
        place = rng.choice((0, len(lines)))
        lines[place:place] = aliases(depth, width)
        _set_entry(lines, rng, f"*level_{depth - 1}")
    else:
        del lines[at]
    return "\n".join(lines).encode(errors="surrogateescape")


def _set_entry(lines: list[str], rng: random.Random, value: str) -> None:
    """Gives a key another value, in which a hole is the present one."""
    places = [index for index, line in enumerate(lines) if ENTRY.match(line)]
    if places:
        at = rng.choice(places)
        lines[at] = ENTRY.sub(lambda found: f"{found[1]} {value.replace(HOLE, found[2])}", lines[at])


def hostile_yaml(document: str, *keys: str) -> Iterator[bytes]:
    """Yields a document with lines before and after it, and with values and endless aliases for some of its keys."""
    for line in YAML_LINES:
        yield from (text.encode(errors="surrogatepass") for text in (document + line, line + document))
    for key in keys:
        before, _, rest = document.partition(f"{key}: ")
        start, end = f"{before}{key}: ", "\n" + rest.partition("\n")[2]
        yield from ((start + value + end).encode(errors="surrogatepass") for value in YAML_VALUES)
        for depth, width in ((9, 9), (64, 2)):
            yield "\n".join([*aliases(depth, width), f"{start}*level_{depth - 1}{end}"]).encode()


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of each value within a document of JSON, the document's own first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in [*items][:50] for place in places(inner, (*path, key)))]


def replaced(document: Any, path: Sequence[Any], text: str, key: str | None = None) -> str:
    """Returns a document's text with other text in place of one value, or of its key and the value."""
    if not path:
        return text
    changed = copy.deepcopy(document)
    functools.reduce(operator.getitem, path[:-1], changed)[path[-1]] = HOLE
    before, after = ("", "") if key is None else (f"{json.dumps(path[-1], ensure_ascii=False)}: ", f"{key}: ")
    return json.dumps(changed, ensure_ascii=False, indent=2).replace(f'{before}"{HOLE}"', after + text)


def change_json(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a JSON document after one change; one that does not parse comes with a marker of a merge."""
    try:
        document = json.loads(content)
        path = rng.choice(places(document))
    except (ValueError, RecursionError):
        return content.replace(b"\n", f"\n{rng.choice(MARKERS)}\n".encode(), rng.choice((1, 9)))
    key = None
    if path and isinstance(path[-1], str) and rng.random() < 0.3:  # under another name, or there twice
        name = json.dumps(path[-1])
        names = '""', '"x"', f'"{path[-1]} "', '"__class__"', '"\\u001b[2J"', name.upper(), f"{name}: 1, {name}"
        key = rng.choice(names)
    return replaced(document, path, rng.choice(JSON_VALUES), key).encode(errors="surrogatepass")


def change_csv(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a table after one change."""
    try:
        rows = list(csv.reader(io.StringIO(content.decode(errors="surrogateescape"), newline="")))
    except csv.Error:  # a field that is too long, after an earlier change
        return content
    if not rows:
        return content
    at, cell = rng.randrange(len(rows)), rng.choice(CELLS)
    row = rows[at]
    cut = rng.randint(0, len(row))
    before, after = row[:cut], row[cut + 1 :]
    other = rng.choice(([], row, [rng.choice(MARKERS)], [cell] * 999))
    rows[at : at + 1] = rng.choice(
        (*[[[*before, cell, *after]]] * 3, [[*row, cell]], [[*before, *after]], [], [other, row])
    )
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerows(rows)
    return out.getvalue().encode(errors="surrogatepass")


def hostile_json(document: bytes) -> Iterator[bytes]:
    """Yields a document with each of the values in the place of itself and of each value in its first level."""
    content = json.loads(document)
    for path in places(content):
        if len(path) < 2:
            yield from (replaced(content, path, text).encode(errors="surrogatepass") for text in JSON_VALUES)
