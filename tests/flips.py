"""Bits of a file flipped one after the other: found, or of no effect."""

import numpy as np

from stages.library.common.console import UserError


def are_found_or_harmless(path, read):
    """Flips a bit in every third byte: `read` gives the same arrays as before, or says so in one line, as mostly."""
    whole, expected, rejected = path.read_bytes(), read(), 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :])
        try:
            found = read()
        except UserError as error:
            rejected += "\n" not in str(error)
        else:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other, str(position))
    assert rejected > len(whole) // 3 / 4
