"""The process that makes the workers of `decoding_workers`, as seen by the one that uses them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from stages.library.common.console import UserError
from stages.library.preparation import decoding_process
from stages.library.preparation.decoding_process import CONTROL, FORK, Limits

ROOT = Path(__file__).parents[3]
REMEDY = "Most likely the machine has too little memory left: end other programs, or take pictures of fewer pixels"
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")


class Maker:
    """Runs `decoding_process` from the first request on; safe in threads.

    Args:
      limits: of each picture.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._starting, self._asking = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._theirs = socket.socketpair()

    @property
    def pid(self) -> int:
        """Of the process, and of the session of all that it makes; 0 before it has started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Starts the process, but does not wait for it.

        Raises:
          UserError: it can't be started.
        """
        with self._starting:
            if self._process or self._theirs.fileno() < 0:
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
                raise UserError(f"no process to decode pictures can be started: {error.strerror}. {REMEDY}") from error
            self._theirs.close()

    def tell(self, request: int, *descriptors: int) -> int:
        """Returns the answer to a request.

        Args:
          request: FORK, or the process id of a worker that has ended.
          descriptors: of the new worker's socket and shared memory.

        Raises:
          UserError: the process has ended, or the system refuses a new one.
        """
        self.start()
        with self._asking:
            try:
                socket.send_fds(self._control, [CONTROL.pack(request)], descriptors)
                answer = self._control.recv(CONTROL.size, socket.MSG_WAITALL)
            except OSError:
                answer = b""
        if len(answer) < CONTROL.size:
            raise UserError(f"the processes that decode pictures have ended. {REMEDY}")
        (number,) = CONTROL.unpack(answer)
        if request == FORK and number < 0:
            raise UserError(f"no process to decode pictures can be started: {os.strerror(-number)}. {REMEDY}")
        return int(number)

    def end(self) -> None:
        """Ends the process and all that it has made, whatever they are doing."""
        with self._starting:
            if self._process:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._theirs.close()
            self._control.close()
