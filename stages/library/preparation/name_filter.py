"""The part of a data set that is used, chosen by the images' names."""

import fnmatch
import re
from collections.abc import Sequence

from stages.library.common.console import UserError


class NameFilter:
    """Glob patterns, at least one of which must match an image's name; `*` matches across slashes too."""

    def __init__(self, patterns: Sequence[str]):
        self._expressions = {pattern: re.compile(fnmatch.translate(pattern)) for pattern in patterns}
        self._unmatched = set(patterns)
        self._example = ""
        self.skipped = 0  # images that no pattern matched

    def takes(self, name: str) -> bool:
        """Tells whether the image of this name is used, and counts those that are not."""
        self._example = min(self._example or name, name)
        matching = {pattern for pattern, expression in self._expressions.items() if expression.match(name)}
        self._unmatched -= matching
        self.skipped += not matching
        return bool(matching)

    def check(self) -> None:
        """Raises UserError where there are images and a pattern matched none of them."""
        if self._example and self._unmatched:
            raise UserError(
                "`tfrecord.include` must be patterns that each match an image's name, as in "
                f"{self._example!r:.200}. Received: {', '.join(sorted(self._unmatched))}"
            )
