"""Many images on the machines of a Dask cluster (dask.distributed, https://distributed.dask.org).

`dask scheduler` on one machine and `dask worker ADDRESS --nworkers auto --nthreads 1` on each, in this
environment; all of them see the images and the output folder under the same paths (a shared file system):
only names travel. A task of a killed worker is given to another one. Not done: starting machines, copying
files, splitting one list of images over several schedulers.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hgrl.core import files as store
from hgrl.core.errors import InputError
from hgrl.core.cache import code_fingerprint
from hgrl.grouping.workers import IN_FLIGHT, as_they_come, stay_with_one_thread

PATIENCE = 20.0  # seconds that a scheduler and its first worker have to answer
RECOUNT = 5.0  # seconds between counts of the workers, which come and go


def run_on_cluster(
    function: Callable[[Any], Any], tasks: Iterable[Any], scheduler: str, folder: Path
) -> Iterator[tuple[str, str | None]]:
    """`function` of each task (which has a `name`) on the workers of a Dask scheduler ("tcp://host:8786");
    its results as they come.

    folder: where results go; absolute, as every path in the tasks. A task whose worker dies is repeated, by
    default up to three times (`distributed.scheduler.allowed-failures` of the scheduler), then named in a
    result with its problem. When all workers are gone it waits for new ones. Raises InputError when the
    scheduler or a first worker does not answer in 20 s, when a worker runs other code, has more than one
    thread or does not see `folder`, and when the scheduler ends.
    """
    from distributed import KilledWorker

    code = code_fingerprint("grouping")
    with _connected(scheduler) as client, _mark(folder) as mark:
        pool = client.get_executor(pure=False)
        try:
            for task, future in as_they_come(
                pool, lambda task: (_run_there, code, str(mark), function, task), tasks, _capacity(client)
            ):
                try:
                    yield future.result()
                except KilledWorker as error:
                    yield (
                        task.name,
                        f"its worker died {error.allowed_failures + 1} times; group it alone, or run again",
                    )
        except CancelledError:
            raise InputError(
                f"{scheduler}: the Dask scheduler has gone; start it and run again: it goes on where it stopped"
            ) from None
        # what unpickling a function of another hgrl raises
        except (ImportError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise InputError(
                f"{scheduler}: cannot run this hgrl ({reason}); start scheduler and workers in this environment"
            ) from None
        finally:
            pool.shutdown(wait=False)


@contextmanager
def _connected(scheduler: str) -> Iterator[Any]:
    from distributed import Client

    remedy = "check the address, or start one with `dask scheduler` and `dask worker ADDRESS --nworkers auto --nthreads 1`"
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:  # a time-out is an OSError
        raise InputError(
            f"{scheduler}: no Dask scheduler answers there ({' '.join(str(error).split())}); {remedy}"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise InputError(f"{scheduler}: this Dask scheduler has no worker; {remedy}") from None
        yield client


@contextmanager
def _mark(folder: Path) -> Iterator[Path]:
    """A file in `folder` while the run lasts: a worker that does not see it would write elsewhere."""
    mark = folder / f".cluster-{uuid.uuid4().hex}"
    store.write_bytes(mark, b"")
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _capacity(client: Any) -> Callable[[], int]:
    """How many tasks may be under way: a few for each worker that there is now."""
    counted, workers = -RECOUNT, 1

    def most() -> int:
        nonlocal counted, workers
        if time.monotonic() - counted > RECOUNT:
            counted, workers = time.monotonic(), len(client.nthreads())
        return IN_FLIGHT * max(1, workers)

    return most


def _run_there(code: str, mark: str, function: Callable[[Any], Any], task: Any) -> Any:
    """What a worker does."""
    _join(code, mark)
    return function(task)


@cache
def _join(code: str, mark: str) -> None:
    """Once for each worker and run: check that it may take part, and keep it to one thread."""
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        raise InputError(
            f"{worker.address}: a worker of {worker.state.nthreads} threads; start it with --nthreads 1, one for each core"
        )
    if code_fingerprint("grouping") != code:
        raise InputError(
            f"{worker.address}: this worker has another version of hgrl; install the same one there and restart it"
        )
    if not Path(mark).exists():
        folder = Path(mark).parent
        raise InputError(
            f"{worker.address}: this worker does not see {folder}; use a folder on a file system that all machines share"
        )
    stay_with_one_thread()
