"""Commands as a person types them: with this Python's programs first, and what they print at hand."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# Nobody's configuration of Git.
GIT = {f"GIT_{role}_{what}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
GIT |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def run(*words, cwd=ROOT, check=True, **environment):
    """Runs a command without the user's settings of Git, DVC and a cloud; unless told otherwise, it must succeed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GIT_", "DVC_"))}
    added = {"PATH": f"{BIN}:{os.environ['PATH']}"} | {name: str(value) for name, value in environment.items()}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=kept | added, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout[-5000:]}{done.stderr[-5000:]}"
    return done
