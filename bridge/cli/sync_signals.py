"""What SIGTERM and SIGINT do to commands that end what they are at first."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first signal; at a second one the process ends where it is.

    That is safe at any time: what was begun is gone on with by the next run.
    """
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        name = signal.Signals(number).name
        text = f"{name}: ending the images under way; once more ends at once\n"
        os.write(sys.stderr.fileno(), text.encode())
        stop()

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.signal(each, handle) for each in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
