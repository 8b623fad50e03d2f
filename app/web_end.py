"""The end of the web page's server: in order where nothing is in the way, and in time whatever is."""

import atexit
import os
import signal
import threading
from types import FrameType
from typing import NoReturn

import uvicorn


class EndingServer(uvicorn.Server):
    """A server whose process ends some seconds after Ctrl+C or SIGTERM at most, and at once after the second one.

    Requests may end before that. What is still in the way then can't be ended from within: Python waits for threads
    that compute, and uvicorn shows a traceback for each request that it cuts off. Nothing is left behind, for an upload
    on disk has no name.
    """

    def __init__(self, config: uvicorn.Config, seconds: float):
        super().__init__(config)
        self._seconds = seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answers a signal."""
        if self.should_exit:
            os._exit(exit_status(sig))
        timer = threading.Timer(self._seconds, os._exit, (exit_status(sig),))
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)


def leave(number: int) -> NoReturn:
    """Ends the process for a signal, without the seconds that Python takes to join threads and to undo TensorFlow."""
    atexit._run_exitfuncs()  # as multiprocessing ends its processes
    os._exit(exit_status(number))


def exit_status(number: int) -> int:
    """Returns a program's exit status for the signal that ended it: as shells have it, but Ctrl+C closes a page."""
    return 0 if number == signal.SIGINT else 128 + number
