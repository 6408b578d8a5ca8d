"""The process pool: order, progress, threads, exceptions and deaths."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hgrl.core import processes
from hgrl.core.errors import InputError
from hgrl.core.processes import HUGE_PAGES, IN_FLIGHT, ONE_THREAD, as_completed, one_thread, run_tasks


def slow_square(number, tick):
    time.sleep(0.05 * (3 - number))  # the later the task, the sooner it ends
    tick(number)
    return number * number


def fails_at_one(number, tick):
    tick(1)
    if number == 1:
        raise InputError("file.png: bad")
    return number


def dies(number, tick=None):
    os._exit(1)


def square(number):
    return number * number


def threads(task, tick=None):
    """OpenCV's threads, the most of any BLAS or OpenMP, and all threads of this process (on Linux)."""
    import scipy.linalg  # noqa: F401

    alive = len(list(Path("/proc/self/task").glob("*"))) or None
    return cv2.getNumThreads(), max(pool["num_threads"] for pool in threadpool_info()), alive


def torch_threads(number, tick):
    import torch

    return torch.get_num_threads(), os.getpid(), os.environ.get(HUGE_PAGES)


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_results_come_in_the_tasks_order_and_every_tick_is_counted(jobs, monkeypatch):
    bars = []

    def remembered(*args, **options):
        bars.append(real(*args, **options))
        return bars[-1]

    real = processes.bar
    monkeypatch.setattr(processes, "bar", remembered)
    assert run_tasks(slow_square, [(0,), (1,), (2,), (3,)], jobs, "squares", total=6) == [0, 1, 4, 9]
    assert [(bar.n, bar.total) for bar in bars] == [(6, 6)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_reaches_the_caller_as_it_is(jobs):
    with pytest.raises(InputError, match=r"^file.png: bad$"):
        run_tasks(fails_at_one, [(0,), (1,), (2,)], jobs, "fails", total=3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_tasks_give_no_results(jobs):
    assert run_tasks(slow_square, [], jobs, "none", total=0) == []
    assert list(as_completed(square, [], jobs)) == []


def test_a_killed_worker_is_one_line_that_says_what_to_do():
    with pytest.raises(InputError, match=r"^deaths: a worker process was killed.*fewer processes"):
        run_tasks(dies, [(0,), (1,)], 2, "deaths", total=2)
    with pytest.raises(InputError, match=r"^deaths: a worker process was killed.*fewer processes"):
        list(as_completed(dies, range(3), 2, "deaths"))


def test_torch_has_one_thread_and_huge_pages_in_workers():
    for count, process, huge_pages in run_tasks(torch_threads, [(0,), (1,)], 2, "threads", total=2):
        assert (count, huge_pages) == (1, "1") and process != os.getpid()


def test_workers_have_one_thread_and_never_started_more():
    for opencv, blas, alive in as_completed(threads, range(4), 2):
        assert (opencv, blas) == (1, 1)
        # the one that works, and the one that waits for the end of the parent
        assert alive is None or alive <= 2


def test_the_environment_of_this_process_is_left_as_it_was():
    program = """
import os
from hgrl.core.processes import as_completed
if __name__ == "__main__":
    before = dict(os.environ)
    assert sorted(as_completed(abs, [-1, -2], 2)) == [1, 2] and dict(os.environ) == before
"""
    environment = {k: v for k, v in os.environ.items() if k not in ONE_THREAD} | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_no_process_starts_before_it_is_asked_for_and_torch_is_not_loaded():
    program = (
        "import sys, multiprocessing.forkserver as f, hgrl.core.processes\n"
        "sys.exit(f._forkserver._forkserver_pid is not None or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_one_thread_while_the_block_lasts_and_as_before_after_it():
    with threadpool_limits(2):
        cv2.setNumThreads(2)
        with one_thread():
            assert threads(None)[:2] == (1, 1)
        assert threads(None)[:2] == (2, 2)


def test_one_job_runs_here_with_one_thread():
    cv2.setNumThreads(2)
    assert [counts[:2] for counts in as_completed(threads, range(2), 1)] == [(1, 1)] * 2
    assert cv2.getNumThreads() == 2


def test_results_of_all_tasks_come_and_few_tasks_wait():
    taken = []

    def tasks():
        for number in range(60):
            taken.append(number)
            yield number

    results, most = [], 0
    for result in as_completed(square, tasks(), 2):
        results.append(result)
        most = max(most, len(taken) - len(results))
    assert sorted(results) == [number * number for number in range(60)]
    assert most < 2 * IN_FLIGHT


def test_workers_end_with_a_parent_that_is_killed():
    program = """
import time
from hgrl.core.processes import as_completed
if __name__ == "__main__":
    for _ in as_completed(time.sleep, [0.0, 60.0, 60.0], 2):
        print("started", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout.readline() == "started\n"
        run.send_signal(signal.SIGKILL)
    assert wait_for_the_end(run.pid)


def wait_for_the_end(group):
    """True when no process of the group is left within 20 s; else kill them."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return False
