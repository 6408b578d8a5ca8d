"""Many images on the cores of this machine: here, or in processes; one thread each.

Nothing heavy is imported above: a process must be told to stay with one thread before NumPy and OpenCV are
loaded in it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from hgrl.core.errors import InputError

IN_FLIGHT = 4  # tasks handed out for each process
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_here(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """`function` of each task, in this process, with one thread until the last is done."""
    with one_thread():
        yield from map(function, tasks)


def run_in_processes(function: Callable[[Any], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """`function` of each task, in processes that end with this one; results as they come.

    Raises InputError when a process is killed; results that were written by then are kept.
    """
    context = multiprocessing.get_context("forkserver")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_process) as pool:
        try:
            for _, future in as_they_come(
                pool, lambda task: (function, task), tasks, lambda: IN_FLIGHT * workers
            ):
                yield future.result()
        except BrokenProcessPool:
            reason = "a worker process was killed, most likely for want of memory"
            raise InputError(
                f"grouping: {reason}; use fewer workers and run again: it goes on where it stopped"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def as_they_come(
    pool: Executor, call: Callable[[Any], tuple], tasks: Iterable[Any], most: Callable[[], int]
) -> Iterator[tuple[Any, Future]]:
    """Submit `call(task)` (a function and its arguments) for each task, at most `most()` at a time; (task,
    done future) as they end.
    """
    running: dict[Future, Any] = {}
    for task in tasks:
        running[pool.submit(*call(task))] = task
        if len(running) >= most():
            yield from _first_done(running)
    while running:
        yield from _first_done(running)


def _first_done(running: dict[Future, Any]) -> list[tuple[Any, Future]]:
    return [(running.pop(future), future) for future in wait(running, return_when=FIRST_COMPLETED).done]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for OpenCV, BLAS and OpenMP in this process; as before when the block ends."""
    import cv2
    import scipy.linalg  # noqa: F401 - a BLAS of its own, which can be limited only once it is loaded
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    with threadpool_limits(1):
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def stay_with_one_thread() -> None:
    """The same for good; in a new process, before NumPy starts threads of its own."""
    for name in THREADS:
        os.environ[name] = "1"
    import cv2
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1)


def _start_process() -> None:
    stay_with_one_thread()
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A pool's processes would outlive a parent that is killed, and keep their memory."""
    parent.join()
    os._exit(1)
