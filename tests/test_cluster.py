"""Grouping on a Dask cluster: two worker processes on this machine, one of them killed."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import skimage.data
from distributed import Client, LocalCluster
from PIL import Image

from hgrl import __main__ as cli
from hgrl.core.errors import InputError
from hgrl.core.loading import grouping_preset
from hgrl.core.settings import GroupingSettings
from hgrl.data.sets.folder import open_folder
from hgrl.grouping import cluster as dask_cluster
from hgrl.grouping.cluster import run_on_cluster
from hgrl.grouping.group import group_images

IMAGES = 24


@contextmanager
def local_cluster(**options):
    """On the loopback only, at ports that are free."""
    with LocalCluster(host="127.0.0.1", dashboard_address="127.0.0.1:0", **options) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(n_workers=2, threads_per_worker=1, processes=True) as started:
        yield started


@pytest.fixture
def photos(tmp_path):
    """A folder of 24 different crops and a file that is no image."""
    folder, photo = tmp_path / "photos", skimage.data.astronaut()
    folder.mkdir()
    for k in range(IMAGES):
        Image.fromarray(photo[5 * k : 5 * k + 90, 10 * k : 10 * k + 120]).save(folder / f"{k:02}.png")
    (folder / "bad.png").write_bytes(b"not an image")
    return folder


@dataclass(frozen=True)
class Named:
    name: str


def process_of(task):
    return task.name, str(os.getpid())


def fatal(task):
    if task.name == "fatal":
        os._exit(1)
    return task.name, None


def threads_of(task):
    """Names and threads of all libraries with a pool of their own, for `test_workers_have_one_thread`."""
    import cv2
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    return task.name, [cv2.getNumThreads(), *(pool["num_threads"] for pool in threadpool_info())]


def saved(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_one_worker_after_the_first_tree(cluster, out, total):
    """Start a thread that does it; its `trees` becomes the number of trees at that moment."""
    with Client(cluster, set_as_default=False) as client:
        processes = list(client.run(os.getpid).values())
    killed = SimpleNamespace(trees=None)

    def kill():
        while not killed.trees:
            killed.trees = len(list(out.rglob("*.npz")))
            time.sleep(0.002)
        os.kill(processes[0], signal.SIGKILL)

    killed.thread = threading.Thread(target=kill, daemon=True)
    killed.thread.start()
    return killed


def test_nothing_is_lost_when_a_worker_is_killed(cluster, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(photos.parent)  # relative paths: workers have a working directory of their own
    out = tmp_path / "out"
    killed = kill_one_worker_after_the_first_tree(cluster, out, IMAGES)
    assert cli.main(["group", "photos", "--out", "out", "--scheduler", cluster.scheduler_address]) == 1
    killed.thread.join()
    assert 0 < killed.trees < IMAGES / 2
    output = capsys.readouterr()
    assert f"{IMAGES} of {IMAGES + 1} images" in output.out
    problems = [line for line in output.err.splitlines() if line.startswith("hgrl: ")]
    assert len(problems) == 1 and "photos/bad" in problems[0]

    group_images(open_folder([photos]), tmp_path / "alone", grouping_preset("fast"))
    # what was being written
    partial = {name: content for name, content in saved(out).items() if name.name.endswith(".part")}
    assert len(partial) <= 1
    assert {name: content for name, content in saved(out).items() if name not in partial} == saved(
        tmp_path / "alone"
    )


def test_only_what_is_missing_is_made(cluster, photos, tmp_path):
    samples = open_folder([photos]).subset(range(4))

    def group():
        return group_images(
            samples, tmp_path / "trees", GroupingSettings(), scheduler=cluster.scheduler_address
        )

    assert group() == {}
    missing, *others = sorted((tmp_path / "trees").rglob("*.npz"))
    before, content = {path: path.stat().st_mtime_ns for path in others}, missing.read_bytes()
    missing.unlink()
    assert group() == {}
    assert missing.read_bytes() == content and {path: path.stat().st_mtime_ns for path in others} == before


def test_each_task_is_done_once_on_another_process(cluster, tmp_path):
    names = [str(k) for k in range(50)]
    results = list(run_on_cluster(process_of, map(Named, names), cluster.scheduler_address, tmp_path))
    assert sorted(name for name, _ in results) == sorted(names)
    assert str(os.getpid()) not in {process for _, process in results}
    assert list(tmp_path.iterdir()) == []  # the mark is gone


def test_workers_have_one_thread(cluster, tmp_path):
    for _, counts in run_on_cluster(threads_of, map(Named, "abcd"), cluster.scheduler_address, tmp_path):
        assert len(counts) >= 2 and set(counts) == {1}


def test_a_task_that_kills_its_workers_is_named_and_the_others_are_done(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    results = run_on_cluster(fatal, map(Named, ["fatal"]), cluster.scheduler_address, tmp_path)
    assert [(name, "its worker died 1 times" in problem) for name, problem, _ in results] == [("fatal", True)]
    others = run_on_cluster(fatal, map(Named, "ab"), cluster.scheduler_address, tmp_path)
    assert sorted(others) == [("a", None), ("b", None)]  # they come as they end


def refused(scheduler, folder, match):
    with pytest.raises(InputError, match=match) as caught:
        list(run_on_cluster(process_of, map(Named, "ab"), scheduler, folder))
    assert "\n" not in str(caught.value)


def test_a_worker_of_another_version_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "code_fingerprint", lambda module: "other code")
    refused(cluster.scheduler_address, tmp_path, "another version of hgrl")


def test_a_worker_on_another_file_system_is_refused(cluster, tmp_path, monkeypatch):
    @contextmanager
    def elsewhere(folder):
        yield folder / "nowhere" / "mark"

    monkeypatch.setattr(dask_cluster, "_mark", elsewhere)
    refused(cluster.scheduler_address, tmp_path, r"does not see .*nowhere")


def test_a_worker_of_several_threads_is_refused(tmp_path):
    with local_cluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp") as threaded:
        refused(threaded.scheduler_address, tmp_path, r"2 threads.*--nthreads 1")


def test_a_scheduler_without_workers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "PATIENCE", 0.5)
    with local_cluster(n_workers=0, processes=False, protocol="tcp") as empty:
        refused(empty.scheduler_address, tmp_path, "has no worker")


@pytest.mark.parametrize(
    "address", ["nonsense", "nonsense://here", "tcp://", "", "tcp://host:port", "a b:8786"]
)
def test_what_is_no_address_is_one_line_at_once(photos, tmp_path, capsys, monkeypatch, address):
    monkeypatch.setattr(dask_cluster, "_connected", lambda *_: pytest.fail("it was tried"))
    assert cli.main(["group", str(photos), "--out", str(tmp_path / "out"), "--scheduler", address]) == 1
    problem = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hgrl: ")]
    assert problem == [f"hgrl: --scheduler: {address!r} is no address; give it as tcp://host:8786"]


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense:8786", "nonsense://here:1"]
)
def test_a_scheduler_that_does_not_answer_is_one_line(photos, tmp_path, capsys, monkeypatch, address):
    monkeypatch.setattr(dask_cluster, "PATIENCE", 0.5)
    assert cli.main(["group", str(photos), "--out", str(tmp_path / "out"), "--scheduler", address]) == 1
    problem = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hgrl: ")]
    assert len(problem) == 1 and problem[0].startswith(f"hgrl: {address}: no Dask scheduler answers there")
