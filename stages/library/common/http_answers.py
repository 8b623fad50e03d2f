"""Answers over HTTP that must come within a time in all: a limit for each read lets a byte a second last for ever."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import requests


class TooSlowError(requests.Timeout):
    """An answer did not come in time."""


def get(
    url: str, seconds: float, read_seconds: float | tuple[float, float], headers: Mapping[str, str] | None = None
) -> requests.Response:
    """Returns an answer whose body has yet to be read, after redirects.

    The end of the last head must come within `seconds` in all, a connection and each read, now and of the body, within
    `read_seconds`. Raises TooSlowError, another requests.RequestException, or ValueError for a redirect to no address.
    """
    answer: Future[requests.Response] = Future()

    def ask() -> None:
        try:
            answer.set_result(requests.get(url, headers=headers, stream=True, timeout=read_seconds))
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
    """Bounds the time for what is read of a body in the block; TooSlowError: the answer is of no use any more."""
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
