"""Where images are grouped: one thread each, nothing read twice, and a run that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import skimage.data
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits

from hgrl import __main__ as cli
from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.data.sets.folder import open_folder
from hgrl.grouping import edges
from hgrl.grouping.forest.model import Forest
from hgrl.grouping.group import group_images
from hgrl.grouping.region_tree import RegionTree
from hgrl.grouping.workers import IN_FLIGHT, one_thread, run_here, run_in_processes


def threads(task):
    """OpenCV's threads, the most of any BLAS or OpenMP, and the threads that this process has in all (Linux)."""
    import scipy.linalg  # noqa: F401

    alive = len(list(Path("/proc/self/task").glob("*"))) or None
    return cv2.getNumThreads(), max(pool["num_threads"] for pool in threadpool_info()), alive


def square(number):
    return number * number


def dies(task):
    os._exit(1)


@pytest.fixture
def photos(tmp_path):
    folder, photo = tmp_path / "photos", skimage.data.astronaut()
    folder.mkdir()
    for k in range(12):
        Image.fromarray(photo[5 * k : 5 * k + 90, 10 * k : 10 * k + 120]).save(folder / f"{k:02}.png")
    return folder


def test_one_thread_while_the_block_lasts_and_as_before_after_it():
    with threadpool_limits(2):
        cv2.setNumThreads(2)
        with one_thread():
            assert threads(None)[:2] == (1, 1)
        assert threads(None)[:2] == (2, 2)


def test_tasks_that_run_here_have_one_thread():
    cv2.setNumThreads(2)
    assert [counts[:2] for counts in run_here(threads, range(2))] == [(1, 1)] * 2
    assert cv2.getNumThreads() == 2


def test_processes_have_one_thread_and_never_started_more():
    for opencv, blas, alive in run_in_processes(threads, range(4), 2):
        assert (opencv, blas) == (1, 1)
        # the one that works, and the one that waits for the end of the parent
        assert alive is None or alive <= 2


def test_results_of_all_tasks_come_and_few_tasks_wait():
    taken = []

    def tasks():
        for number in range(60):
            taken.append(number)
            yield number

    results, most = [], 0
    for result in run_in_processes(square, tasks(), 2):
        results.append(result)
        most = max(most, len(taken) - len(results))
    assert sorted(results) == [number * number for number in range(60)]
    assert most < 2 * IN_FLIGHT


def test_a_killed_process_is_one_line_that_says_what_to_do():
    with pytest.raises(InputError, match="a worker process was killed.*fewer workers.*goes on"):
        list(run_in_processes(dies, range(3), 2))


def test_each_image_and_the_forest_are_read_once(photos, tmp_path, monkeypatch):
    opened, forests = [], []
    real_open, real_load = Image.open, Forest.load
    monkeypatch.setattr(
        Image, "open", lambda path, *rest: opened.append(Path(path).name) or real_open(path, *rest)
    )
    monkeypatch.setattr(Forest, "load", lambda path: forests.append(path) or real_load(path))
    edges.shipped_forest.cache_clear()
    samples, settings = open_folder([photos]), GroupingSettings(detector="numba")
    for _ in range(2):  # the second time there is nothing to do
        assert group_images(samples, tmp_path / "trees", None, settings) == {}
    assert sorted(opened) == sorted(path.name for path in photos.iterdir())
    assert len(forests) == 1


def start_and_kill(photos, out):
    """Run the command in two processes and kill it alone (SIGKILL) as soon as there are two trees; the group
    its processes are in.
    """
    command = [sys.executable, "-m", "hgrl", "group", str(photos), "--out", str(out), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        while len(list(out.rglob("*.npz"))) < 2:
            assert run.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    return run.pid


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


def test_a_killed_run_leaves_no_process_and_goes_on_where_it_stopped(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert wait_for_the_end(start_and_kill(photos, out))
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert 2 <= len(done) < 12
    assert cli.main(["group", str(photos), "--out", str(out)]) == 0
    assert "12 of 12 images" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len([RegionTree.load(path) for path in out.rglob("*.npz")]) == 12
