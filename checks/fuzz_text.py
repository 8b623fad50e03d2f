"""YAML, JSON and CSV with values of other types, and with what an editor or a merge leaves; the rest stays whole."""

import json
import random
import re
from collections.abc import Sequence

from checks.fuzz_mutations import Structural

HOLE = "\ue000hole"  # in a value: what stood there
CONFLICT = "<<<<<<< HEAD\n", "=======\n", ">>>>>>> other\n"
# In place of any value of JSON.
JSON_VALUES = (
    "null", "true", "-1", "1", "2.5", "1e999", "NaN", "-Infinity", "1e-999", "-0.0", "9" * 5000, "1." + "9" * 5000,
    '""', '"x"', '"\\u0000"', '"\\ud800"', '"<!--</script>"', '"=1+1"', '"\\u001b[2J"', '"../../etc/passwd"', '"1"',
    '"/dev/zero"', f'"{"x" * 70_000}"', "[]", "{}", "[null]", "[1, 2]", '["a", "a"]', '[["a"]]', '{"": {}}',
    '{"a": 1, "a": 2}', '{"a": {"b": []}}', "[" * 900 + "]" * 900, "[" * 100_000 + "]" * 100_000,
    '{"a": ' * 900 + "1" + "}" * 900, '{"a": ' * 100_000 + "1" + "}" * 100_000, "[1,]", "'x'", "x", "", "\\", '"\\x"',
    "01", "1_000", '"\n"', '"\x00"', "1\n".join(CONFLICT), "// comment\n1", "\ufeff1", "18446744073709551616",
)  # fmt: skip
# In place of any value of YAML: references, tags, keys, dates, numbers, text, depth.
YAML_VALUES: tuple[str, ...] = (
    "&a [*a]", "&a {k: *a}", "&a [x, *a, {y: *a}]", "*missing", "&a &b x", "*", "&a", "&a {*a : 1}", "!!int x",
    "!!float ''", "!!bool 7", "!!null x", "!!timestamp x", "!!binary '*'", "!!set {a, b}", "!!omap {a: 1}",
    "!!pairs [a: 1]", "!!seq {a: 1}", "!!str [a]", "!unknown x", "!<", "!!", "!!python/object/apply:os.getpid []",
    "!%zz x", "!e!x 1", "!!merge <<", "!!int 0x", "!!int 1:99:x", "!!value =", "{[a, b]: 1}", "{? [a] : 1}", "{1: 2}",
    "{null: 1}", "{2001-01-01: 1}", "{a, b}", "{a: 1, a: 2}", "{<<: {a: 1}}", "{<<: [1, 2]}", "{<<: [{a: 1}, {b: 2}]}",
    "{!!binary AAAA: 1}", "{.nan: 1}", "2001-13-45", "0000-00-00", "2001-01-01T25:61:61Z", "2001-01-01 1:1:1 +99:99",
    "2001-01-01T00:00:00.0000000000001Z", "190:20:30.15", ".inf", ".nan", "1e999", "0o17", "0xFFFFFFFFFFFFFFFFFF",
    "1_000", "-0", "1e", "9" * 5000, "-" + "9" * 4300, "0x" + "f" * 5000, "1." + "0" * 5000, "1" + ":0" * 3000,
    '"\\x"', '"\\uD800"', '"\\UFFFFFFFF"', '"\\0"', '"\\e[31m"', '"', "'", "@", "`", "%", "|", "|9", "|+\n  x", "? x",
    "- x", ": x", "---", "...", "x" * 70_000, "~", "\u202e", "\x85", "\ufeff", "\U0001f600", "\tx", "No", "[", "]", "{",
    "}", "[]", "{}", "[,]", "[" * 500 + "]" * 500, "{a: " * 500 + "}" * 500, "[" * 30_000 + "]" * 30_000,
    "- " * 3000 + "x", "? " * 500 + "x", "\n" + "\n".join(" " * n + "a:" for n in range(3, 900)),
)  # fmt: skip
YAML_LINES = (
    "%YAML 1.1\n---\n", "%YAML 3.0\n---\n", "%YAML x\n---\n", "%TAG ! tag:x,2000:\n---\n", "---\n", "...\n",
    "\n--- !!map\n", "<<: {a: 1}\n", "<<: *ridge\n", "? [a, b]\n: 1\n", "? a\n", "*a : 1\n", "{a: b}: 1\n", "null: 1\n",
    "1: 1\n", "2001-99-01: x\n", "\tx: 1\n", "x:\ty\n", "- x\n", "a: b: c\n", "x\n", "\ufeff", "\0", "\x1b[2J\n",
    "# \x07\n", "&a a: *a\n", "!!set\n", *CONFLICT,
)  # fmt: skip
CELLS = (
    "", "x", "0", "-1", "1e999", "nan", "9" * 5000, "1_000", "٣", "=1+1", "\t-1", "\x1b[2J", "a\nb", 'a"b', "\0",
    "x" * 200_000, "<!--", "1,2", " 1", "1.5", "None", "\ufeff", "\r", "\ud800",
)  # fmt: skip


def aliases(depth: int, width: int) -> str:
    """Returns lines whose last anchor stands for `width` to the power of `depth` items."""
    return "".join(
        f"level_{n}: &level_{n} [{', '.join([f'*level_{n - 1}' if n else 'x'] * width)}]\n" for n in range(depth)
    )


def _change(*ways: tuple[str, Sequence[str]]) -> Structural:
    """Returns a change of what a pattern finds to one of its values, whose holes become the group that was found."""
    compiled = [(re.compile(pattern.encode(), re.MULTILINE), values) for pattern, values in ways]

    def change(content: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
        pattern, values = rng.choice(compiled)
        places = list(pattern.finditer(content))
        if not places:
            return content
        place, value = rng.choice(places), rng.choice(values)
        new = value.encode(errors="surrogatepass").replace(HOLE.encode(), place[pattern.groups])
        return content[: place.start()] + new + content[place.end() :]

    return change


VALUE = r"(?<=: )[^#\n]*"  # of a key of YAML
# Of JSON with a line for each item: a text, an item that holds no others, a key with an item that does.
TEXT = r'"(?:[^"\\]|\\.)*"'
ITEM = rf"(?:(?<=: )|^ +)(?:{TEXT}|-?\d[\d.eE+-]*|true|false|null)(?=,?$)"
HOLDER = rf"^( *)({TEXT}: )[\[{{]\n(?:.*\n)*?\1[]}}]"
ANCHORED = [f"&there {HOLE}{alias}" for alias in ("*there", "[*there, *there]", "{<<: *there}", "{*there : 1}")]
BOMBS = [f"{aliases(depth, width)}{HOLE}*level_{depth - 1}" for depth, width in ((2, 3), (9, 9), (64, 2), (3, 200))]
OTHER_LINES = [indent + line for indent in ("", "  ", "    ") for line in (*YAML_LINES, HOLE, f"- {HOLE}")]
change_yaml = _change(
    *[(VALUE, YAML_VALUES)] * 4,
    (r"\[", [f"[{value}, " for value in YAML_VALUES]),
    (r"\{", [f"{{k: {value}, " for value in YAML_VALUES]),
    *[(r"^.*\n", [HOLE + line for line in OTHER_LINES])] * 2,
    *[(rf"(?<=: )([^#\n]+\n(?:.*\n){{{lines}}}?.*: )[^#\n]*", ANCHORED) for lines in ("0,9", "9,99")],
    *[(rf"\A((?:.*\n){lines}.*: )[^#\n]*", BOMBS) for lines in ("{0,9}", "*")],
    (r"^.*\n", [""]),
)
change_json = _change(
    *[(ITEM, JSON_VALUES)] * 6,
    *[(HOLDER, [HOLE + value for value in JSON_VALUES])] * 2,
    (r"\A(?:.|\n)*\Z", JSON_VALUES),
    *[(f"({TEXT}): ", [f"{key}: " for key in ('""', '"x"', '"__class__"', '"\\u001b[2J"', f"{HOLE}: 1, {HOLE}")])] * 2,
    (r"^.*\n", [HOLE + line for line in CONFLICT]),
)
change_csv = _change(
    *[(r"[^,\n]+", CELLS)] * 3,
    (r"$", [f",{cell}" for cell in CELLS]),
    (r",[^,\n]*", [""]),
    (r"^.*\n", ["", HOLE * 2, f"\n{HOLE}", "x," * 998 + f"x\n{HOLE}", *(HOLE + line for line in CONFLICT)]),
    (r"^.*\n", [""]),
)


def hostile_yaml(document: str, *keys: str) -> list[bytes]:
    """A document with lines before and after it, and with values and endless aliases for some of its keys."""
    texts = [text for line in YAML_LINES for text in (document + line, line + document)]
    for key in keys:
        before, _, rest = document.partition(f"{key}: ")
        start, end = f"{before}{key}: ", "\n" + rest.partition("\n")[2]
        texts += [start + value + end for value in YAML_VALUES]
        texts += [bomb.replace(HOLE, start) + end for bomb in BOMBS]
    return [text.encode() for text in texts]


def hostile_json(document: bytes) -> list[bytes]:
    """A document with each of the values in the place of itself and of each value in its first level."""
    content, hole = json.loads(document), json.dumps(HOLE)
    whole = [hole, *(json.dumps(content | {key: HOLE}, indent=2) for key in content)]
    return [text.replace(hole, value).encode() for text in whole for value in JSON_VALUES]
