"""A scheduler's SIGTERM: training ends after the step in progress, with a checkpoint."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from hgrl.core.errors import InputError


class Stopped(InputError):
    """Training was asked to stop and wrote a checkpoint first: not a fault, but not complete either."""


class StopSignal:
    """While the block lasts SIGTERM sets `asked` and does not end the process; in the main thread only."""

    def __init__(self) -> None:
        self.asked = self.obeyed = False

    def __enter__(self) -> Self:
        self.former: Any = None
        if threading.current_thread() is threading.main_thread():
            self.former = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked", True))
        return self

    def __exit__(self, *_: object) -> None:
        if self.former is None:
            return
        signal.signal(signal.SIGTERM, self.former)
        if self.asked and not self.obeyed:  # too late for the loop: tell whoever listened before
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def passing_on_sigterm() -> Iterator[None]:
    """Hand a SIGTERM on to the worker processes, and go on waiting: they save, then say that they stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    children = multiprocessing.active_children
    former = signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children()])
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def ignore_sigterm(*_: object) -> None:
    """For loader processes: the step in progress needs their data, and they end with their parent."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
