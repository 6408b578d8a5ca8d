"""Independent tasks side by side, one thread each, under one progress bar."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.progress import bar

Tick = Callable[[int], None]
# environment: whoever imports the package starts its worker processes ahead of its own imports
WORKERS_FIRST = "HGRL_WORKERS_FIRST"
AHEAD = ["torch", "hgrl.evaluation.stage"]  # what those of every stage that trains or scores import
# torch's memory on the CPU in pages of 2 MB: a frozen network alone embeds 1.4 times as fast
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
_counter: Any = None  # in a worker process: the shared count of work done


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[tuple], jobs: int, desc: str, total: int, shown: bool = True
) -> list[Any]:
    """`function(*task, tick)` for every task, in at most `jobs` processes; results in the tasks' order.

    `function` calls `tick(n)` when `n` of the `total` units of work are done. With one job, or one task,
    everything runs in this process. After an exception no further task starts; those that run come to their
    end, so that their work is not lost, and the exception is raised here. `shown`: whether there is a bar.
    """
    with bar(total=total, desc=desc, disable=not shown) as progress:
        if jobs <= 1 or len(tasks) <= 1:
            return [function(*task, progress.update) for task in tasks]
        return _run_in_processes(function, tasks, min(jobs, len(tasks)), desc, progress)


def start_ahead() -> None:
    """Start the process that workers are forked from, and return at once: it imports what they need while
    this one imports its own.

    Without it `run_tasks` starts that process when it first needs it, and waits: a few seconds a stage.
    """
    _prepare_workers(AHEAD)
    forkserver.ensure_running()


def _prepare_workers(modules: list[str]) -> Any:
    os.environ.setdefault(HUGE_PAGES, "1")
    context = multiprocessing.get_context("forkserver")  # fork after torch has started threads may hang
    context.set_forkserver_preload(modules)
    return context


def _run_in_processes(
    function: Callable, tasks: Sequence[tuple], jobs: int, desc: str, progress: Any
) -> list[Any]:
    context = _prepare_workers(["torch", function.__module__])
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_start_worker, initargs=(counter,)
    ) as pool:
        futures = [pool.submit(_call, function, task) for task in tasks]
        try:
            _follow(futures, counter, progress)
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise InputError(
                f"{desc}: a worker process was killed, most likely for want of memory; lower `jobs` and run again"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _follow(futures: list, counter: Any, progress: Any) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        progress.update(counter.value - progress.n)
        for future in done:
            future.result()


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _call(function: Callable, task: tuple) -> Any:
    return function(*task, _tick)


def _tick(count: int = 1) -> None:
    with _counter.get_lock():
        _counter.value += count
