"""The process that makes the workers of `decoding_workers`, as seen by the one that uses them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from dataclasses import asdict
from pathlib import Path

from stages.library.common.console import UserError
from stages.library.preparation import decoding_process
from stages.library.preparation.decoding_process import CONTROL, FORK, Limits

ROOT = Path(__file__).parents[3]
REMEDY = "Most likely the machine has too little memory left: end other programs, or take images of fewer pixels"
MOST_FILES = 1 << 16
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")


def alone() -> bool:
    """Tells whether this process can be copied: it has no threads, whose locks a copy would wait for without end."""
    return threading.active_count() == 1 and "tensorflow" not in sys.modules


def _not_started(number: int | None) -> UserError:
    return UserError(f"no process to decode images can be started: {os.strerror(number or 0)}. {REMEDY}")


class Maker:
    """Runs `decoding_process`, with the limits of each image, from the first request on; safe in threads."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._starting, self._asking = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._control, self._theirs = socket.socketpair()

    @property
    def pid(self) -> int:
        """Of the process, and of the session of all that it makes; 0 before it has started."""
        return self._pid

    def start(self) -> None:
        """Starts the process, or raises UserError; does not wait for it.

        It is a copy of this one where that can be: a new one takes a quarter of a second of CPU time.
        """
        with self._starting:
            if self._pid or self._theirs.fileno() < 0:
                return
            if alone():
                self._pid = self._copied()
                self._theirs.close()
                return
            path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", decoding_process.__name__, json.dumps(asdict(self._limits))],
                    stdin=self._theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=os.environ | SINGLE | {"PYTHONPATH": path},
                    start_new_session=True,  # Ctrl+C is for this process alone, which then ends them
                )
            except OSError as error:
                raise _not_started(error.errno) from error
            self._pid = self._process.pid
            self._theirs.close()

    def _copied(self) -> int:
        """Returns the process id of a copy of this process, which does nothing but make workers."""
        try:
            with warnings.catch_warnings(action="ignore"):  # from Python 3.12 on: of NumPy's threads, which are idle
                process = os.fork()
        except OSError as error:
            raise _not_started(error.errno) from error
        if process:
            return process
        try:
            os.setsid()  # Ctrl+C is for the other process alone
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(self._theirs.fileno(), decoding_process.CONTROL_FD)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.closerange(3, MOST_FILES)  # its copy of our end of the socket, too, or it would never see that we ended
            decoding_process.serve(self._limits)
        finally:
            os._exit(1)

    def tell(self, request: int, *descriptors: int) -> int:
        """Returns the answer to a request.

        Args:
          request: FORK, or the process id of a worker that has ended.
          descriptors: of the new worker's socket and shared memory.

        Raises:
          UserError: the process has ended, or the system rejects a new one.
        """
        self.start()
        with self._asking:
            try:
                socket.send_fds(self._control, [CONTROL.pack(request)], descriptors)
                answer = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
            except OSError:
                answer = b""
        if len(answer) < CONTROL.size:
            raise UserError(f"the processes that decode images have ended. {REMEDY}")
        (number,) = CONTROL.unpack(answer)
        if request == FORK and number < 0:
            raise _not_started(-number)
        return int(number)

    def end(self) -> None:
        """Ends the process and all that it has made, whatever they are doing."""
        with self._starting:
            if self._pid:
                with contextlib.suppress(ProcessLookupError):  # a copy that does not lead its session yet
                    os.killpg(self._pid, signal.SIGKILL)
                os.kill(self._pid, signal.SIGKILL)
                if self._process:
                    self._process.wait()
                else:
                    os.waitpid(self._pid, 0)
            self._theirs.close()
            self._control.close()
