"""Many images on the machines of a Dask cluster (https://distributed.dask.org).

`dask scheduler` on one machine and `dask worker ADDRESS --nworkers auto --nthreads 1` on each, in this
environment; all see the images and the output folder under the same paths (a shared file system): only names
travel. Not done: starting machines, copying files, splitting one list of images over several schedulers."""

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from hgrl.core import files
from hgrl.core.cache import code_fingerprint, fingerprint
from hgrl.core.errors import InputError
from hgrl.core.processes import IN_FLIGHT, as_they_end, stay_with_one_thread
from hgrl.grouping.edges import MODEL

PATIENCE = 20.0  # seconds that a scheduler and its first worker have to answer
RECOUNT = 5.0  # seconds between counts of the workers, which come and go
ADDRESS = re.compile(r"(\w+://)?(\[[\da-fA-F:]+\]|[^\s:/]+):\d+")
START = "start one with `dask scheduler` and `dask worker ADDRESS --nworkers auto --nthreads 1`"


def run_on_cluster(
    function: Callable[[Any], Any], tasks: Iterable[Any], scheduler: str, folder: Path
) -> Iterator[tuple[str, str | None, list[str]]]:
    """`function` of each task on a Dask scheduler's workers: (name, problem, notes), as they come.

    scheduler: as "tcp://host:8786". folder: where results go; absolute, as every path in the tasks, which
    have a `name`. A task whose worker dies is repeated, by default up to three times (the scheduler's
    `distributed.scheduler.allowed-failures`), then its problem is its result. Without workers it waits.
    InputError for what is no address, when scheduler or first worker do not answer in 20 s, when a worker
    runs other code, has several threads or does not see `folder`, and when the scheduler ends."""
    if not ADDRESS.fullmatch(scheduler):
        raise InputError(f"--scheduler: {scheduler!r} is no address; give it as tcp://host:8786")
    from distributed import KilledWorker

    with _connected(scheduler) as client, _mark(folder) as mark:
        pool = client.get_executor(pure=False)
        submit = partial(pool.submit, _run_there, _version(), str(mark), function)
        try:
            for task, future in as_they_end(submit, tasks, _capacity(client)):
                try:
                    yield future.result()
                except KilledWorker as error:
                    died = f"its worker died {error.allowed_failures + 1} times; group it alone, or run again"
                    yield task.name, died, []
        except CancelledError:
            reason = "the Dask scheduler has gone; start it and run again to go on where it stopped"
            raise InputError(f"{scheduler}: {reason}") from None
        except (ImportError, AttributeError, RuntimeError) as error:  # unpickled: a function of another hgrl
            reason = f"cannot run this hgrl ({type(error).__name__}: {' '.join(str(error).split())})"
            remedy = "start scheduler and workers in this environment"
            raise InputError(f"{scheduler}: {reason}; {remedy}") from None
        finally:
            pool.shutdown(wait=False)


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:  # a time-out is an OSError
        what = f"no Dask scheduler answers there ({' '.join(str(error).split())})"
        raise InputError(f"{scheduler}: {what}; check the address, or {START}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise InputError(f"{scheduler}: this Dask scheduler has no worker; {START}") from None
        yield client


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """A file in `folder` while the run lasts: a worker that does not see it would write elsewhere."""
    mark = folder / f".cluster-{uuid.uuid4().hex}"
    files.write_bytes(mark, b"")
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _capacity(client: Any) -> Callable[[], int]:
    """How many tasks may be under way: a few per worker that there is now."""
    counted, workers = -RECOUNT, 1

    def most() -> int:
        nonlocal counted, workers
        if time.monotonic() - counted > RECOUNT:
            counted, workers = time.monotonic(), len(client.nthreads())
        return IN_FLIGHT * max(1, workers)

    return most


def _version() -> str:
    """A fingerprint of what must be the same on every worker: the code that groups, and its forest."""
    return fingerprint(code_fingerprint("hgrl.grouping.group"), MODEL)


def _run_there(version: str, mark: str, function: Callable[[Any], Any], task: Any) -> Any:
    _join(version, mark)
    return function(task)


@cache
def _join(version: str, mark: str) -> None:
    """Once per worker and run: check that it may take part, and hold it to one thread."""
    from distributed import get_worker

    worker, folder = get_worker(), Path(mark).parent
    problem = None
    if worker.state.nthreads != 1:
        problem = f"it has {worker.state.nthreads} threads; start it with --nthreads 1, one worker per core"
    elif _version() != version:
        problem = "it has another version of hgrl; install the same one there and restart it"
    elif not Path(mark).exists():
        problem = f"it does not see {folder}; use a folder on a file system that all machines share"
    if problem:
        raise InputError(f"worker {worker.address}: {problem}")
    stay_with_one_thread()
