"""The one process pool: independent tasks in worker processes of one thread each.

Nothing heavy is imported above: a worker limits its threads before NumPy and OpenCV are loaded in it."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from multiprocessing import forkserver
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.progress import bar

IN_FLIGHT = 4  # tasks handed out per worker: a list of a million would not fit into memory
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
HUGE_PAGES = (
    "THP_MEM_ALLOC_ENABLE"  # torch's memory in pages of 2 MB: a frozen network embeds 1.4 times as fast
)
# in a worker: the shared number of units of work done, and what holds it to one thread
_counter: Any = None
_limits = ExitStack()


def run_tasks(
    function: Callable, tasks: Sequence[tuple], jobs: int, desc: str, total: int, shown: bool = True
) -> list[Any]:
    """`function(*task, tick)` for every task, in at most `jobs` processes; results in the tasks' order.

    `function` calls `tick(n)` when n of the `total` units of work are done; shown: whether a progress bar
    says so. With one job or one task it runs in this process, whose threads are left alone. After an
    exception no further task starts; running ones finish, so that their work is not lost, and the exception
    is raised here. InputError when a worker is killed."""
    with bar(total=total, desc=desc, disable=not shown) as progress:
        if jobs <= 1 or len(tasks) <= 1:
            return [function(*task, progress.update) for task in tasks]
        counter = multiprocessing.get_context("forkserver").Value("q", 0)
        with _pool(function, min(jobs, len(tasks)), desc, counter) as pool:
            pending = futures = [pool.submit(_with_tick, function, task) for task in tasks]
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                progress.update(counter.value - progress.n)
                for future in done:
                    future.result()
            return [future.result() for future in futures]


def as_completed(function: Callable, tasks: Iterable, jobs: int, desc: str = "workers") -> Iterator[Any]:
    """`function(task)` for every task, in at most `jobs` processes; results as they come.

    With one job it runs in this process, which is held to one thread until the last result. Tasks are taken
    from the iterable a few at a time. InputError, which begins with `desc`, when a worker is killed."""
    if jobs <= 1:
        with one_thread():
            yield from map(function, tasks)
        return
    with _pool(function, jobs, desc) as pool:
        for _, future in as_they_end(partial(pool.submit, function), tasks, lambda: IN_FLIGHT * jobs):
            yield future.result()


def as_they_end(submit: Callable, tasks: Iterable, most: Callable[[], int]) -> Iterator[tuple[Any, Future]]:
    """`submit` every task to an executor, at most `most()` at a time; (task, done future) as they end."""
    waiting, running = iter(tasks), {}
    while True:
        running |= {submit(task): task for task in islice(waiting, max(0, most() - len(running)))}
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold OpenCV, BLAS and OpenMP to one thread in this process while the block lasts."""
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
    """The same for good, torch included: for a new process, before its libraries start threads."""
    os.environ.update(ONE_THREAD)
    _limits.enter_context(one_thread())
    if "torch" in sys.modules:  # loaded later, it reads the environment
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def _pool(function: Callable, jobs: int, desc: str, counter: Any = None) -> Iterator[ProcessPoolExecutor]:
    # a fork of this process could hang on a lock that one of its threads holds
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    before = dict(os.environ)
    # for the server, which loads libraries before a worker could say how many threads they may start
    os.environ.update({HUGE_PAGES: "1"} | before | ONE_THREAD)
    forkserver.ensure_running()
    for name in {HUGE_PAGES, *ONE_THREAD} - set(before):
        del os.environ[name]
    os.environ.update(before)
    with ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(counter,)) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            reason = f"{desc}: a worker process was killed, most likely because memory ran out"
            remedy = "use fewer processes and run again to go on where it stopped"
            raise InputError(f"{reason}; {remedy}") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    stay_with_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers would outlive a parent that is killed, and keep their memory."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _with_tick(function: Callable, task: tuple) -> Any:
    def tick(count: int = 1) -> None:
        with _counter.get_lock():
            _counter.value += count

    return function(*task, tick)
