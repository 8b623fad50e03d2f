"""The one reader of params.yaml's text: YAML 1.2 as DVC reads it, without what makes YAML dangerous.

Values are built from the parser's events, one at a time, so that the place of a mistake is known, and work and memory
are bounded before they are spent: an alias counts as all that it stands for, so a few lines can't grow to gigabytes;
nesting has a limit; nothing is looked up by a tag. A date is text, for no key takes one.
"""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import ScalarNode

from stages.library.common.guarded_files import INTEGERS, MOST_DEPTH, FileError, check_text, read_text, shortened

MOST_BYTES = 256 << 10  # the parser takes seconds for a MB; ours has 11 kB
MOST_EXPANDED = 1 << 20  # characters, each alias counted as what it stands for
MOST_INTEGER = 80  # characters: 64 binary digits, with underscores
REMEDY = "Mend it"


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """What is wrong at an event."""


def read_yaml(path: Path) -> Any:
    """Reads a YAML file of one document.

    Returns:
      Nested dicts with keys of text, lists, texts, numbers, booleans and None.

    Raises:
      FileError: it can't be read or does not parse, or has a tag, a key that is no text, a key twice, an alias of
        what it stands in, or too much of anything. The message has line and column.
    """
    text = read_text(path, MOST_BYTES, REMEDY)
    builder = _Builder()
    event = None
    try:
        for event in builder.parser.parse(text):
            builder.add(event)
        return builder.document
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise FileError(f"{path} is not YAML: {_cut(reason)}{_place(mark)}. {REMEDY}") from error
    except _Broken as error:
        raise FileError(f"{path}: {error}{_place(event.start_mark if event else None)}. {REMEDY}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError) as error:
        # The parser's own mistakes with broken escapes and directives.
        reason = _cut(" ".join(str(error).split()) or type(error).__name__)
        raise FileError(f"{path} is not YAML: {reason}{_place(event.end_mark if event else None)}. {REMEDY}") from error


def _place(mark: Any) -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""


def _cut(reason: str) -> str:
    return reason if len(reason) <= 160 else f"{reason[:157]}..."


class _Collection:
    """A list or mapping that is being built."""

    def __init__(self, anchor: str | None, is_mapping: bool):
        self.anchor, self.is_mapping, self.size = anchor, is_mapping, 1
        self.items: list[Any] = []
        self.keys: set[Hashable] = set()

    def add(self, value: Any) -> None:
        if self.is_mapping and len(self.items) % 2 == 0:
            if not isinstance(value, str | _Merge):
                raise _Broken(f"a key must be text. Received: {shortened(value)}")
            if value in self.keys:
                raise _Broken(f"the key {shortened(value)} stands twice")
            self.keys.add(value)
        self.items.append(value)

    def value(self) -> Any:
        if not self.is_mapping:
            return self.items
        pairs = list(zip(self.items[::2], self.items[1::2], strict=True))
        merged: dict[str, Any] = {}
        for key, value in pairs:
            if isinstance(key, _Merge):
                sources = value if isinstance(value, list) else [value]
                if not all(isinstance(source, dict) for source in sources):
                    raise _Broken(f"`<<` takes a mapping or a list of some. Received: {shortened(value)}")
                for source in reversed(sources):
                    merged |= source
        return merged | {key: value for key, value in pairs if not isinstance(key, _Merge)}


class _Merge:
    """The key `<<`, which takes over the keys of another mapping."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Merge)

    def __hash__(self) -> int:
        return hash(_Merge)

    def __repr__(self) -> str:
        return "<<"


class _Builder:
    """Makes Python values of the parser's events."""

    def __init__(self) -> None:
        self.parser = YAML(typ="safe", pure=True)
        self.document: Any = None
        self._open: list[_Collection] = []
        self._documents = 0
        self._known: dict[str, tuple[Any, int]] = {}
        construct = self.parser.constructor
        self._scalars: dict[str, Callable[[ScalarNode], Any]] = {
            "null": lambda node: None,
            "bool": construct.construct_yaml_bool,
            "int": construct.construct_yaml_int,
            "float": construct.construct_yaml_float,
            "merge": lambda node: _Merge(),
        }

    def add(self, event: Event) -> None:
        """Takes the next event; raises _Broken."""
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _Broken("a file must hold one document")
        elif isinstance(event, SequenceStartEvent | MappingStartEvent):
            self._check_tag(event)
            if len(self._open) >= MOST_DEPTH:
                raise _Broken(f"lists and mappings must have at most {MOST_DEPTH} levels")
            self._open.append(_Collection(event.anchor, isinstance(event, MappingStartEvent)))
        elif isinstance(event, SequenceEndEvent | MappingEndEvent):
            done = self._open.pop()
            self._place(done.value(), done.size, done.anchor)
        elif isinstance(event, ScalarEvent):
            self._check_tag(event)
            self._place(self._scalar(event), 1 + len(event.value), event.anchor)
        elif isinstance(event, AliasEvent):
            if any(collection.anchor == event.anchor for collection in self._open):
                raise _Broken(f"the alias {shortened(event.anchor)} stands for what it stands in")
            if event.anchor not in self._known:
                raise _Broken(f"the alias {shortened(event.anchor)} has no anchor before it")
            self._place(*self._known[event.anchor], None)

    def _place(self, value: Any, size: int, anchor: str | None) -> None:
        """Puts a finished value, of so many characters, where it belongs."""
        if anchor:
            self._known[anchor] = value, size
        if not self._open:
            self.document = value
            return
        self._open[-1].size += size
        if self._open[-1].size > MOST_EXPANDED:
            raise _Broken(f"a file must have at most {MOST_EXPANDED:,} characters, with all aliases expanded")
        self._open[-1].add(value)

    def _check_tag(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent) -> None:
        if event.tag is not None and event.tag != "!":
            raise _Broken(f"a value must have no tag. Received: {shortened(event.tag)}")

    def _scalar(self, event: ScalarEvent) -> Any:
        tag = str(self.parser.resolver.resolve(ScalarNode, event.value, event.implicit)).rpartition(":")[2]
        try:
            check_text(event.value)
            if tag not in self._scalars:
                return event.value
            node = ScalarNode(tag, event.value, event.start_mark, event.end_mark)
            value = None if len(event.value) > MOST_INTEGER and tag == "int" else self._scalars[tag](node)
            if tag == "int" and (value is None or value not in INTEGERS):
                raise ValueError(f"an integer must have at most 64 bits. Received: {shortened(event.value)}")
            return value
        except ValueError as error:
            raise _Broken(_cut(str(error))) from error
