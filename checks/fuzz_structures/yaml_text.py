"""YAML: its aliases, tags, keys, numbers and depths, in files that are otherwise ours."""

import random
import re
from collections.abc import Callable, Sequence

ENTRY = re.compile(r"^( *)([a-z_0-9]+):( *)([^#\n]*?)( *#.*)?$")
MOST_DEEP = 30_000


def aliases(depth: int, width: int) -> str:
    """Returns lines whose last anchor stands for `width` to the power of `depth` items."""
    lines = [f"level_0: &level_0 [{', '.join(['x'] * width)}]"]
    lines += [f"level_{n}: &level_{n} [{', '.join([f'*level_{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


VALUES: tuple[str, ...] = (
    # References to itself and to nothing.
    "&a [*a]", "&a {k: *a}", "&a [x, *a, {y: *a}]", "*missing", "&a &b x", "& x", "*", "&a", "&a {*a : 1}",
    # Tags.
    "!!int x", "!!float x", "!!bool 7", "!!null x", "!!timestamp x", "!!binary '*'", "!!binary AAAA", "!!set {a, b}",
    "!!omap [a: 1]", "!!omap {a: 1}", "!!pairs [a: 1]", "!!seq {a: 1}", "!!map [a]", "!!str [a]", "!unknown x", "! x",
    "!<x> 1",
    "!<", "!!", "!!python/object/apply:os.getpid []", "!%zz x", "!e!x 1", "!!int ''", "!!float ''", "!!int {}",
    "!!merge <<",
    "!!int 0x", "!!int 0b2", "!!int 1:99:x", "!!float 1:2", "!!value =", "!!timestamp 2001-99-99",
    # Keys that no mapping of ours has.
    "{[a, b]: 1}", "{{a: b}: 1}", "{? [a] : 1}", "{1: 2}", "{null: 1}", "{1.5: 1}", "{true: 1}", "{2001-01-01: 1}",
    "{a, b}",
    "{a: 1, a: 2}", "{<<: {a: 1}}", "{<<: [1, 2]}", "{<<: 1}", "{<<: [{a: 1}, {b: 2}]}", "{!!binary AAAA: 1}",
    "{.nan: 1}",
    # Dates, times and numbers.
    "2001-13-45", "2001-02-30", "0000-00-00", "9999-12-31", "2001-01-01T25:61:61Z", "2001-01-01 1:1:1 +99:99",
    "2001-12-14t21:59:43.10-05:00", "2001-01-01T00:00:00.0000000000001Z", "1:30", "190:20:30.15", ".inf", "-.inf",
    ".nan",
    "1e999", "1e-999", "0o17", "0xFFFFFFFFFFFFFFFFFF", "0b101", "1_000", "_1", "-0", "+1", "0.0.0", "1e",
    "99999999999999999999",
    "9" * 5000, "-" + "9" * 4300, "0x" + "f" * 5000, "1." + "0" * 5000, "1" + ":0" * 3000,
    # Text.
    '"\\x"', '"\\xZZ"', '"\\u12"', '"\\uD800"', '"\\U00110000"', '"\\UFFFFFFFF"', '"\\q"', '"\\0"', '"\\e[31m"', '"',
    "'", "''",
    "@", "`", "%", "|", ">", "|9", "|+\n  x", ">-\n\n", "? x", "- x", ": x", "---", "...", "<<<<<<< HEAD", "x" * 70_000,
    "~",
    "\u202e", "\x85", "\u2028", "\ufeff", "\U0001f600", "'\t'", "\tx", "null", "yes", "No", "[", "]", "{", "}", "[]",
    "{}", "[,]",
    # Depth.
    "[" * 500 + "]" * 500, "{a: " * 500 + "}" * 500, "[" * 5000, "[" * MOST_DEEP + "]" * MOST_DEEP, "- " * 3000 + "x",
    "? " * 500 + "x", "\n" + "\n".join(" " * n + "a:" for n in range(3, 900)),
)  # fmt: skip
LINES = (
    "%YAML 1.1\n---\n", "%YAML 1.2\n---\n", "%YAML 3.0\n---\n", "%YAML x\n---\n", "%TAG ! tag:x,2000:\n---\n",
    "%TAG !e! !\n---\n",
    "---\n", "...\n", "\n--- !!map\n", "<<: {a: 1}\n", "<<: *ridge\n", "? [a, b]\n: 1\n", "? a\n", "*a : 1\n",
    "[a, b]: 1\n",
    "{a: b}: 1\n", "null: 1\n", "~: 1\n", "1: 1\n", "2001-99-01: x\n", "<<<<<<< HEAD\n", "=======\n", ">>>>>>> other\n",
    "\tx: 1\n", "x:\ty\n", "- x\n", "a: b: c\n", "x\n", "\ufeff", "\0", "\x1b[2J\n", "# \x07\n", "&a a: *a\n",
    "!!set\n",
    "&a ? *a\n",
)  # fmt: skip


def _value(lines: list[str], rng: random.Random) -> None:
    """Another value for a key."""
    _replace(lines, rng, rng.choice(VALUES))


def _replace(lines: list[str], rng: random.Random, value: str) -> None:
    places = [index for index, line in enumerate(lines) if ENTRY.match(line)]
    if places:
        at = rng.choice(places)
        lines[at] = ENTRY.sub(lambda found: f"{found[1]}{found[2]}: {value}", lines[at])


def _item(lines: list[str], rng: random.Random) -> None:
    """A value in a list or mapping that a key has already."""
    places = [index for index, line in enumerate(lines) if ENTRY.match(line) and ("[" in line or "{" in line)]
    if places:
        at, value = rng.choice(places), rng.choice(VALUES)
        inner = value if lines[at].find("[") >= 0 else f"k: {value}"
        lines[at] = re.sub(r"([\[{])", lambda found: f"{found[1]}{inner}, ", lines[at], count=1)


def _line(lines: list[str], rng: random.Random) -> None:
    at = rng.choice((0, rng.randint(0, len(lines)), len(lines)))
    lines.insert(at, rng.choice(("", "  ", "    ")) + rng.choice(LINES).rstrip("\n"))


def _alias(lines: list[str], rng: random.Random) -> None:
    """An anchor at one place and its alias at others."""
    places = [index for index, line in enumerate(lines) if ENTRY.match(line)]
    if len(places) > 1:
        at = rng.choice(places)
        lines[at] = ENTRY.sub(lambda found: f"{found[1]}{found[2]}: &there {found[4]}", lines[at])
        for _ in range(rng.choice((1, 1, 5))):
            _replace(lines, rng, rng.choice(("*there", "[*there, *there]", "{<<: *there}", "{*there : 1}")))


def _expanding(lines: list[str], rng: random.Random) -> None:
    """Aliases of aliases, which a key then has as its value."""
    depth, width = rng.choice(((2, 3), (4, 9), (9, 9), (30, 2), (90, 2), (3, 200)))
    place = rng.choice((0, len(lines)))
    lines[place:place] = aliases(depth, width).splitlines()
    _replace(lines, rng, f"*level_{depth - 1}")


def _move(lines: list[str], rng: random.Random) -> None:
    """A line at another place or with another indent, or twice."""
    if lines:
        line = lines[rng.randrange(len(lines))]
        lines.insert(rng.randint(0, len(lines)), rng.choice((line, "  " + line, line.strip(), "- " + line)))


def _remove(lines: list[str], rng: random.Random) -> None:
    if lines:
        del lines[rng.randrange(len(lines))]


CHANGES: tuple[Callable[[list[str], random.Random], None], ...] = (
    _value, _value, _value, _value, _item, _item, _line, _alias, _alias, _expanding, _move, _remove,
)  # fmt: skip


def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Returns a document after one change."""
    lines = content.decode(errors="surrogateescape").split("\n")
    rng.choice(CHANGES)(lines, rng)
    return "\n".join(lines).encode(errors="surrogateescape")


def hostile(document: str, *keys: str) -> list[bytes]:
    """Returns documents with each of the values for each of some keys, and aliases that grow without end.

    Args:
      document: a valid one.
      keys: of any level.
    """
    found = [document + line for line in LINES] + [line + document for line in LINES]
    for key in keys:
        before, _, rest = document.partition(f"{key}: ")
        start, end = f"{before}{key}: ", "\n" + rest.partition("\n")[2]
        found += [start + value + end for value in VALUES]
        found += [f"{aliases(depth, width)}{start}*level_{depth - 1}{end}" for depth, width in ((9, 9), (64, 2))]
    return [text.encode(errors="surrogatepass") for text in found]
