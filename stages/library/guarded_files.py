"""Files that other programs or people may have changed, read within limits."""

import stat
from pathlib import Path

from stages.library.console import UserError

MAX_BYTES = 64 << 20


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Returns the text of a regular file.

    Args:
      path: of the file.
      max_bytes: of a file that is larger nothing is read.

    Raises:
      UserError: it is missing, no regular file, too large, or no UTF-8.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{path} must be a regular file")
        if about.st_size > max_bytes:
            raise UserError(f"{path} must have at most {max_bytes:,} bytes. Received: {about.st_size:,}")
        return path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be UTF-8. Byte {error.start} is not") from error
