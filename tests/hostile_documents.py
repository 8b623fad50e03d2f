"""Damaged and hostile variants of a document that Decant wrote, and texts that are no params.yaml.

A reader may accept a variant that means the same or breaks no rule; else it says so in one line.
"""

import copy
import functools
import json
import operator

HUGE = "9" * 5000
MARKS = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> other\n"
# As JSON text, for some are no Python values. A number for a count is as right as any, so none is here.
WRONG = ["null", "true", '"x"', "[]", "[[[]]]", '{"x": {"x": []}}', "NaN", "-Infinity", "1e999", HUGE, "-1", "0.5"]
WRONG += [r'"\ud800"', r'"\u0000"', "[" * 500 + "]" * 500]


def files(text):
    """Returns whole files by kind: bytes that no rule on keys is needed to reject, but for a byte order mark."""
    whole = text.encode()
    small = b"", b" \n", b"[1]", b"1", b'"x"', b"null", b"NaN", b"<html><body>404</body></html>", bytes(1000)
    return {content.decode()[:10]: content for content in small} | {
        "half": whole[: len(whole) // 2],
        "cut by a byte": whole.rstrip()[:-1],
        "conflict": MARKS.format(text).encode(),
        "half a conflict": (text + ">>>>>>> other\n").encode(),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": whole.replace(b"a", b"\xe9", 1),
        "binary": bytes(range(256)),
        "deep": b"[" * 200_000,
        "deep objects": b'{"a":' * 100_000,
        "twice": whole + whole,
        "byte order mark": b"\xef\xbb\xbf" + whole,
    }


def variants(document):
    """Returns the `files` of a JSON document and those with each key, at any depth, missing, twice, or wrong."""
    texts = [json.dumps(document | {"unheard-of": 1})]
    for *parents, key in _paths(document):
        changed = copy.deepcopy(document)
        parent = functools.reduce(operator.getitem, parents, changed)
        parent[key] = "@@@"
        texts += [json.dumps(changed).replace('"@@@"', value, 1) for value in WRONG]
        if isinstance(parent, dict):
            texts.append(json.dumps(changed).replace('"@@@"', f'0, "{key}": 0', 1))
            del parent[key]
            texts.append(json.dumps(changed))
    return [*files(json.dumps(document)).values(), *(text.encode() for text in texts)]


def _paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from _paths(part, (*path, key))


def yaml_texts(text):
    """Returns texts that are no params.yaml by kind, most with the mistake in a section that is read."""
    sections = {
        "alias": ["&x [*x]", "&x {y: *x}", "&x {<<: *x}", "*y"],
        "key": ["{? [1, 2] : 3}", "{? {a: 1} : 3}", "{1: 2}", "{~: 2}", "{2001-01-01: 2}", "{<<: [1]}", "1\nsplit: 1"],
        "date": ["2001-99-99", "2001-01-01T99:99:99Z", "!!timestamp abc"],
        "number": [HUGE, f"0x{'f' * 5000}", f"0o{'7' * 5000}", "!!int abc", "!!float abc"],
        "tag": ["!foo bar", "!!python/object/apply:os.system [date]", "!<a"],
        "value of a tag": ["!!binary '*'", "!!set [1]", "!!omap {a: 1}"],
        "text": [r'"\xZZ"', r'"\q"', r'"\UFFFFFFFF"', r'"\ud800"', r'"\0"', "'y", "\n\t- y", "\x1b[31m"],
        "depth": ["[" * 20_000, "[" * 2_000 + "]" * 2_000, "{a: " * 5_000, "\n" + "- " * 20_000],
    }
    kinds = {f"{kind} {n}": f"split: {value}\n" for kind in sections for n, value in enumerate(sections[kind])}
    return kinds | {
        "two documents": "---\nx: 1\n",
        "a later YAML": f"%YAML 9.9\n---\n{text}",
        "broken directive": f"%YAML a.b\n---\n{text}",
        "large": "x: y\n" * 100_000,
    }


def yaml_bombs():
    """Returns texts of a few kB whose aliases stand for gigabytes."""
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)]
    mappings = [f"b{n}: &b{n} {{x: *b{n - 1}, y: *b{n - 1}}}\n" for n in range(1, 40)]
    return {
        "list": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(lists) + "split: *a11\n",
        "mapping": "b0: &b0 {k: v}\n" + "".join(mappings) + "split: *b39\n",
        "text": f"c0: &c0 {'x' * 10_000}\nc1: &c1 [{', '.join(['*c0'] * 20_000)}]\nsplit: *c1\n",
    }
