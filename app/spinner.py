"""What a person sees while something takes seconds that nobody can count."""

from contextlib import AbstractContextManager

from rich.console import Console
from rich.text import Text

from stages.library.common.console import in_a_line


def spinner(what: str) -> AbstractContextManager[object]:
    """Shows a spinner and `what` on stderr as long as the context lasts; nothing where stderr is not a terminal."""
    return Console(stderr=True).status(Text(in_a_line(what)))
