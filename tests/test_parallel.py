"""Tasks side by side: order, progress and exceptions."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hgrl.core import processes as parallel
from hgrl.core.errors import InputError
from hgrl.core.processes import run_tasks


def slow_square(number, tick):
    time.sleep(0.05 * (3 - number))  # the later the task, the sooner it ends
    tick(number)
    return number * number


def fails_at_one(number, tick):
    tick(1)
    if number == 1:
        raise InputError("file.png: bad")
    return number


def dies(number, tick):
    os._exit(1)


def threads(number, tick):
    import torch

    return torch.get_num_threads(), os.getpid()


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_results_come_in_the_tasks_order_and_every_tick_is_counted(jobs, monkeypatch):
    bars = []

    def remembered(*args, **options):
        bars.append(real(*args, **options))
        return bars[-1]

    real = parallel.bar
    monkeypatch.setattr(parallel, "bar", remembered)
    assert run_tasks(slow_square, [(0,), (1,), (2,), (3,)], jobs, "squares", total=6) == [0, 1, 4, 9]
    assert [(bar.n, bar.total) for bar in bars] == [(6, 6)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_reaches_the_caller_as_it_is(jobs):
    with pytest.raises(InputError, match="^file.png: bad$"):
        run_tasks(fails_at_one, [(0,), (1,), (2,)], jobs, "fails", total=3)


def test_a_killed_worker_is_one_line_that_says_what_to_do():
    with pytest.raises(InputError, match="deaths: a worker process was killed.*lower `jobs`"):
        run_tasks(dies, [(0,), (1,)], 2, "deaths", total=2)


def test_workers_are_other_processes_of_one_thread_each():
    for count, process in run_tasks(threads, [(0,), (1,)], 2, "threads", total=2):
        assert count == 1
        assert process != os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_tasks_give_no_results(jobs):
    assert run_tasks(slow_square, [], jobs, "none", total=0) == []


def test_workers_started_ahead_have_imported_what_stages_need_and_serve_the_tasks():
    program = """
import multiprocessing.forkserver as forkserver, os, sys
import hgrl
assert forkserver._forkserver._forkserver_pid and "HGRL_WORKERS_FIRST" not in os.environ and "torch" not in sys.modules
from hgrl.core.processes import run_tasks
from tests.test_parallel import imported
if __name__ == "__main__":
    print(run_tasks(imported, [(0,), (1,)], 2, "imported", total=2, shown=False))
"""
    root = Path(__file__).parents[1]
    environment = {**os.environ, parallel.WORKERS_FIRST: "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=root,
    )
    assert done.stdout == "[True, True]\n", done.stderr


def imported(number, tick):
    return {"torch", "hgrl.evaluation.stage"} <= set(sys.modules)


def test_workers_are_not_started_ahead_unasked():
    program = "import hgrl, multiprocessing.forkserver as f; print(f._forkserver._forkserver_pid)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "None\n"
    )
