"""Answers over HTTP that must come within a time in all: a limit for each read lets a byte a second last for ever."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import requests


class TooSlowError(requests.Timeout):
    """An answer did not come in time."""


def get(url: str, seconds: float, read_seconds: float | tuple[float, float], **headers: str) -> requests.Response:
    """Returns an answer whose body has yet to be read.

    Args:
      url: to ask, and to follow redirects from.
      seconds: until the end of the last answer's head, in all.
      read_seconds: for a connection and for each read, now and of the body; or for one and the other.
      headers: of the request, with _ for -.

    Raises:
      TooSlowError: the time is up.
      requests.RequestException: there is no answer.
      ValueError: it redirects to no address.
    """
    answer: Future[requests.Response] = Future()

    def ask() -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            answer.set_result(requests.get(url, headers=named, stream=True, timeout=read_seconds))
        except Exception as error:  # noqa: BLE001 - raised below
            answer.set_exception(error)

    # Names, encryption, redirects and heads can each drip, and nothing interrupts them: it is left behind.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TooSlowError from None


@contextlib.contextmanager
def limited(answer: requests.Response, seconds: float) -> Iterator[None]:
    """Bounds the time for what is read of a body inside of the context.

    Raises:
      TooSlowError: the time is up; the answer is of no use any more.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has just ended by itself
            answer.raw.shutdown()

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # it may just be cutting
        if late.is_set():
            raise TooSlowError  # whatever a cut connection has looked like
