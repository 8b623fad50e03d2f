"""The one reader of params.yaml's text: YAML 1.2 as DVC reads it, without what makes YAML dangerous.

Values are built from nodes, so that the place of a mistake is known, and work and memory are bounded before they are
spent: an alias counts as all that it stands for. Nothing is looked up by a tag. A date is text.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from stages.library.common.guarded_files import INTEGERS, MOST_DEPTH, FileError, check_text, read_text, shortened

MOST_BYTES = 256 << 10  # the parser takes seconds for a MB; ours has 11 kB
MOST_EXPANDED = 1 << 20  # characters, each alias counted as what it stands for
MOST_INTEGER = 80  # characters: 64 binary digits, with underscores
MOST_REASON = 160  # characters of a message
REMEDY = "Mend it"
# The parser's own mistakes with broken escapes and directives.
MISTAKES = ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError


class _RuleError(MarkedYAMLError):
    """What breaks a rule of ours, not one of YAML."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file of one document: dicts with keys of text, lists, texts, numbers, booleans and None.

    Raises FileError, with line and column, for anything else, a tag, a key twice, or too much of anything.
    """
    text = read_text(path, MOST_BYTES, REMEDY)
    parser = YAML(typ="safe", pure=True)
    parser.Composer = _Composer
    composer = parser.composer
    try:
        documents = list(parser.compose_all(text))
        if len(documents) > 1:
            raise _RuleError("a file must hold one document", documents[1].start_mark)
        return _Builder(parser).value(documents[0])[0] if documents else None
    except (YAMLError, *MISTAKES) as error:
        mark = getattr(error, "problem_mark", None if isinstance(error, YAMLError) else composer.mark)
        reason = getattr(error, "problem", None) or " ".join(str(error).split()) or type(error).__name__
        reason = reason if len(reason) <= MOST_REASON else f"{reason[: MOST_REASON - 3]}..."
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        rule = "" if isinstance(error, _RuleError) else " is not YAML"
        raise FileError(f"{path}{rule}: {reason}{place}. {REMEDY}") from error


class _Composer(Composer):
    """Makes nodes of the parser's events; an alias becomes the node that it stands for."""

    mark: Any = None  # the end of the last event
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        self.mark = event.end_mark
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise _RuleError(f"the alias {shortened(event.anchor)} has no anchor before it", event.start_mark)
            if self.anchors[event.anchor].end_mark is None:  # it has not ended yet
                raise _RuleError(f"the alias {shortened(event.anchor)} stands for what it stands in", event.start_mark)
        elif event.tag not in (None, "!"):
            raise _RuleError(f"a value must have no tag. Received: {shortened(event.tag)}", event.start_mark)
        elif event.anchor:
            self.anchors.pop(event.anchor, None)  # the name may be used anew
        if self._depth > MOST_DEPTH:
            raise _RuleError(f"lists and mappings must have at most {MOST_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Builder:
    """Makes Python values of nodes."""

    def __init__(self, parser: YAML) -> None:
        self._constructor = parser.constructor
        self._made: dict[int, tuple[Any, int]] = {}

    def value(self, node: Node) -> tuple[Any, int]:
        """Returns the value of a node, and how many characters it has, with all aliases expanded."""
        if id(node) not in self._made:
            if isinstance(node, ScalarNode):
                self._made[id(node)] = self._scalar(node), 1 + len(node.value)
            elif isinstance(node, SequenceNode):
                self._made[id(node)] = [self.value(part)[0] for part in node.value], self._size(node.value)
            else:
                self._made[id(node)] = self._mapping(node), self._size([part for pair in node.value for part in pair])
        return self._made[id(node)]

    def _mapping(self, node: Node) -> dict[str, Any]:
        found: dict[Any, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            is_merge = key_node.tag.endswith(":merge")
            key = self.value(key_node)[0]
            if not isinstance(key, str):
                raise _RuleError(f"a key must be text. Received: {shortened(key)}", key_node.start_mark)
            if (is_merge, key) in found:
                raise _RuleError(f"the key {shortened(key)} stands twice", key_node.start_mark)
            value = found[is_merge, key] = self.value(value_node)[0]
            if is_merge:
                sources = value if isinstance(value, list) else [value]
                if not all(isinstance(source, dict) for source in sources):
                    problem = f"`<<` takes a mapping or a list of some. Received: {shortened(value)}"
                    raise _RuleError(problem, value_node.end_mark)
                for source in reversed(sources):
                    merged |= source
        return merged | {key: value for (is_merge, key), value in found.items() if not is_merge}

    def _size(self, parts: list[Node]) -> int:
        size = 1
        for part in parts:
            size += self.value(part)[1]
            if size > MOST_EXPANDED:
                problem = f"a file must have at most {MOST_EXPANDED:,} characters, with all aliases expanded"
                raise _RuleError(problem, part.start_mark)
        return size

    def _scalar(self, node: ScalarNode) -> Any:
        kind = str(node.tag).rpartition(":")[2]
        try:
            check_text(node.value)
            if kind not in ("null", "bool", "int", "float"):
                return node.value
            construct = getattr(self._constructor, f"construct_yaml_{kind}")
            if kind == "int" and (len(node.value) > MOST_INTEGER or construct(node) not in INTEGERS):
                raise ValueError(f"an integer must have at most 64 bits. Received: {shortened(node.value)}")
            return construct(node)
        except ValueError as error:
            raise _RuleError(str(error), node.start_mark) from error
