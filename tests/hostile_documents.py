"""Damaged and hostile variants of a document that Decant wrote, and texts that are no params.yaml.

`files` gives whole files, `json_variants` those of a JSON document with each of its keys changed. A reader may accept a
variant that means the same or breaks no rule; else it says so in one line. The fuzzer takes the texts as seeds.
"""

import copy
import json

HUGE = "9" * 5000
MARKS = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> other\n"
# As JSON text, for some are no Python values. A number for a count is as right as any, so none is here.
WRONG = {
    "null": "null",
    "true": "true",
    "a text": '"x"',
    "a list": "[]",
    "a list of lists": "[[[]]]",
    "an object": '{"x": {"x": []}}',
    "NaN": "NaN",
    "infinity": "-Infinity",
    "overflow": "1e999",
    "5000 digits": HUGE,
    "a negative number": "-1",
    "a fraction": "0.5",
    "half a character": '"\\ud800"',
    "a NUL": '"\\u0000"',
    "deep": "[" * 500 + "]" * 500,
}


def files(text):
    """Returns whole files by kind: bytes that no rule on keys is needed to reject, but for a byte order mark."""
    whole = text.encode()
    return {
        "empty": b"",
        "blank": b" \n",
        "half": whole[: len(whole) // 2],
        "cut by a byte": whole.rstrip()[:-1],
        "conflict": MARKS.format(text).encode(),
        "half a conflict": (text + ">>>>>>> other\n").encode(),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.encode().replace(b'"', b'"\xe9', 1),
        "binary": bytes(range(256)),
        "NULs": bytes(1000),
        "deep": b"[" * 200_000,
        "deep objects": b'{"a":' * 100_000,
        "another type": b"[1]",
        "a number": b"1",
        "a text": b'"x"',
        "null": b"null",
        "NaN": b"NaN",
        "twice": whole + whole,
        "byte order mark": b"\xef\xbb\xbf" + whole,
        "HTML": b"<html><body>404</body></html>",
    }


def json_variants(document):
    """Yields (kind, text) for each key of a JSON document, at any depth: missing, twice, or with each wrong value."""
    for path in _paths(document):
        name = ".".join(map(str, path))
        parent = _at(document, path[:-1])
        if isinstance(parent, dict):
            yield f"{name} missing", json.dumps(_changed(document, path))
            yield f"{name} twice", _with(document, path, '0, "' + str(path[-1]) + '": 0')
        for kind, value in WRONG.items():
            yield f"{name} {kind}", _with(document, path, value)
    yield "an unknown key", json.dumps(document | {"unheard-of": 1})


def _paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from _paths(part, (*path, key))


def _at(document, path):
    for key in path:
        document = document[key]
    return document


def _changed(document, path, *value):
    document = copy.deepcopy(document)
    parent = _at(document, path[:-1])
    if value:
        parent[path[-1]] = value[0]
    else:
        del parent[path[-1]]
    return document


def _with(document, path, text):
    return json.dumps(_changed(document, path, "@@@")).replace('"@@@"', text, 1)


def yaml_texts(text):
    """Returns kinds of params.yaml that are none, by kind, each with the mistake in a section that is read."""
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    wide = "b0: &b0 {k: v}\n" + "".join(f"b{n}: &b{n} {{x: *b{n - 1}, y: *b{n - 1}}}\n" for n in range(1, 40))
    long = f"c0: &c0 {'x' * 10_000}\nc1: &c1 [{', '.join(['*c0'] * 20_000)}]\n"
    changed = {
        "self-reference": "split: &x [*x]",
        "self-reference in a mapping": "split: &x {y: *x}",
        "merge of itself": "split: &x {<<: *x}",
        "merge of a list": "split: {<<: [1]}",
        "tuple key": "split: {? [1, 2] : 3}",
        "mapping key": "split: {? {a: 1} : 3}",
        "number key": "split: {1: 2}",
        "null key": "split: {~: 2}",
        "date key": "split: {2001-01-01: 2}",
        "key twice": "split: 1\nsplit: 1",
        "impossible date": "split: 2001-99-99",
        "impossible time": "split: 2001-01-01T99:99:99Z",
        "5000 digits": f"split: {HUGE}",
        "5000 hex digits": f"split: 0x{'f' * 5000}",
        "5000 octal digits": f"split: 0o{'7' * 5000}",
        "unknown tag": "split: !foo bar",
        "Python tag": "split: !!python/object/apply:os.system [date]",
        "broken binary": "split: !!binary '*'",
        "broken int": "split: !!int abc",
        "broken float": "split: !!float abc",
        "broken timestamp": "split: !!timestamp abc",
        "broken set": "split: !!set [1]",
        "broken map": "split: !!omap {a: 1}",
        "tag without an end": "split: !<abc",
        "broken escape": r'split: "\xZZ"',
        "unknown escape": r'split: "\q"',
        "escape beyond Unicode": r'split: "\UFFFFFFFF"',
        "half a character": r'split: "\ud800"',
        "a NUL": r'split: "\0"',
        "deep flow": "split: " + "[" * 20_000,
        "deep closed flow": "split: " + "[" * 2_000 + "]" * 2_000,
        "deep mappings": "split: " + "{a: " * 5_000,
        "deep block": "split:\n" + "- " * 20_000,
        "alias without anchor": "split: *y",
        "quote without an end": "split: 'y",
        "tab": "split:\n\t- y",
        "control code": "split: \x1b[31m",
        "two documents": "---\nx: 1",
        "conflict": "<<<<<<< HEAD\nx: 1\n=======\nx: 2\n>>>>>>> other",
    }
    kinds = {kind: f"{more}\n" for kind, more in changed.items()}
    kinds |= {
        "a later YAML": f"%YAML 9.9\n---\n{text}",
        "broken directive": f"%YAML a.b\n---\n{text}",
        "list bomb": "\n".join([*bomb, "split: *a11", ""]),
        "mapping bomb": wide + "split: *b39\n",
        "text bomb": long + "split: *c1\n",
        "a list": "- a\n",
        "a text": "a\n",
        "empty": "",
        "half": text[: len(text) // 2],
        "large": "x: y\n" * 100_000,
    }
    return kinds
