"""The one reader of text and JSON that Decant wrote and others may have changed, damaged or made.

Whatever a file of a checkout holds, the outcome is content of the stated type, or one line with file, key and rule.
"""

import functools
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from stages.library.common.console import UserError

REMEDY = "Run: dvc repro"
MOST_TEXT_BYTES = 64 << 20  # the confusions of thousands of classes take less
MOST_JSON_BYTES = 16 << 20  # of which Python makes at most some hundred MB of objects
MOST_DEPTH = 32  # levels of lists and objects; ours have 5
MOST_PROBLEMS = 3  # named in one line
PLUGIN_NAME = r"^[a-z][a-z0-9_]*$"  # of a backbone, a head, a section
CONFIG = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
INTEGERS = range(-(1 << 63), 1 << 64)
DIGITS = 20  # of the longest of them
# pydantic's names of types, which are those of JSON and Python -> what people write in YAML.
TYPES = {"bool": "true or false", "float": "a number", "int": "an integer", "string": "a text"}
TYPES |= dict.fromkeys(["list", "tuple"], "a list") | dict.fromkeys(["dataclass", "dict"], "a mapping")
CONFLICT = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: .*)?$", re.MULTILINE)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 3, 6, 6
_adapter: Any = functools.cache(pydantic.TypeAdapter)


class FileError(UserError):
    """A file holds something else than it should; the message names the file, the place and the rule."""


def read_text(path: Path, max_bytes: int = MOST_TEXT_BYTES, remedy: str = REMEDY) -> str:
    """Reads a regular UTF-8 file, without the byte order mark where it has one; a pipe or a device is never waited for.

    Raises FileError where it can't be read, is larger, is not UTF-8, or a merge left the marks of a conflict in it.
    """
    is_local = isinstance(path, os.PathLike)  # else a path of fsspec, such as the feature store's in a bucket
    try:
        with open(path, "rb", opener=_without_waiting) if is_local else path.open("rb") as file:
            if is_local and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileError(f"{path} is not a regular file. {remedy}")
            content: bytes = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise FileError(f"{path} can't be read: {reason}. {remedy}") from error
    if len(content) > max_bytes:
        raise FileError(f"{path} must have at most {max_bytes:,} bytes. {remedy}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} must be UTF-8; byte {error.start} is not. {remedy}") from error
    if mark := CONFLICT.search(text):
        line = text.count("\n", 0, mark.start()) + 1
        raise FileError(
            f"{path} has the mark of a merge conflict in line {line}, {shortened(mark[0])}. Take one of the two sides, "
            f"git checkout --ours or --theirs {path}. {remedy}"
        )
    return text


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_json(path: Path, kind: Any, remedy: str = REMEDY) -> Any:
    """Reads a JSON file that holds a `kind`, as pydantic takes it in strict mode; FileError for anything else."""
    return parse_json(read_text(path, MOST_JSON_BYTES, remedy), kind, str(path), remedy)


def parse_json(text: str | bytes, kind: Any, name: str, remedy: str = REMEDY) -> Any:
    """Returns what a JSON text without a byte order mark holds, as `read_json` does; `name` is the file's in errors."""
    try:
        number = _check_number
        _check(json.loads(text, parse_constant=number, parse_int=number, parse_float=number, object_pairs_hook=_object))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise FileError(f"{name} is not JSON: {error.msg} ({place}). {remedy}") from error
    except RecursionError as error:
        raise FileError(f"{name} must have at most {MOST_DEPTH} levels of lists and objects. {remedy}") from error
    except ValueError as error:
        raise FileError(f"{name}: {error}. {remedy}") from error
    try:
        # From the text, for pydantic's strict mode takes a list for a tuple there.
        return _adapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        found = problems(error)
        more = f"; {len(found) - MOST_PROBLEMS} more" if len(found) > MOST_PROBLEMS else ""
        raise FileError(f"{name}: {'; '.join(found[:MOST_PROBLEMS])}{more}. {remedy}") from error


def problems(error: pydantic.ValidationError, section: str = "", former: Mapping[str, str] | None = None) -> list[str]:
    """Returns "`section.key`: rule. Received: value" for each wrong key; `former` says what to do about old ones."""
    explained = []
    found = error.errors(include_url=False)
    # A list with a bad item is also reported as too short, for what is left of it.
    inner = {item["loc"][:-1] for item in found if len(item["loc"]) > 1}
    for item in (item for item in found if item["loc"] not in inner):
        key = ".".join([*([section] if section else []), *(str(part)[:80] for part in item["loc"])])
        rule = _rule(item)
        rule = f" {rule}" if rule.startswith("must ") else f": {rule}"
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            rule = f" {(former or {}).get(key, 'is unknown')}"
        received = item["input"]
        if isinstance(received, Mapping):  # a rule across keys: those that it names
            received = {name: value for name, value in received.items() if f"`{name}`" in rule} or received
        outcome = " is missing" if item["type"] == "missing" else f"{rule}. Received: {shortened(received)}"
        explained.append(f"`{key}`{outcome}" if key else f"it{outcome}")
    return explained


def _rule(item: Any) -> str:
    """Returns the rule that a value broke, of an error of pydantic's."""
    kind = item["type"].removesuffix("_type")
    if kind in TYPES:
        return f"must be {TYPES[kind]}"
    for field, most in (("min_length", "least"), ("max_length", "most")):
        if kind in ("too_short", "too_long") and field in item["ctx"]:
            limit = item["ctx"][field]
            return f"must have at {most} {limit} item{'s' if limit != 1 else ''}"
    rule: str = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return (rule[0].lower() + rule[1:]).replace("input should be ", "must be ", 1)


def shortened(value: object) -> str:
    """Returns a value as Python writes it, cut where it is long or deep; control characters are escapes."""
    return _SHORT.repr(value)


def check_text(text: str) -> None:
    """Raises ValueError where a text can't be a name of anything: with a NUL, or of half a character."""
    if "\0" in text:
        raise ValueError(f"a text must not have a NUL. Received: {shortened(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a text must be Unicode, without lone surrogates. Received: {shortened(text)}") from None


def _check_number(text: str) -> None:
    if text.lstrip("-").isdecimal():
        if len(text.lstrip("-")) > DIGITS or int(text) not in INTEGERS:
            raise ValueError(f"an integer must have at most 64 bits. Received: {shortened(text)}")
    elif not math.isfinite(float(text)):
        raise ValueError(f"a number must be finite. Received: {shortened(text)}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{shortened(next(key for key in keys if keys.count(key) > 1))} stands twice in one object")
    return content


def _check(content: object) -> None:
    """Raises RecursionError where a value is nested too deeply, ValueError where a text in it is none."""
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise RecursionError
        if isinstance(value, str):
            check_text(value)
        elif isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
