"""Two processes on the CPU that train together, for the tests: run as a script, once for each rank."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would set, and one thread each."""
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
    }
    return (
        os.environ
        | place
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parent.parent)])}
    )


def in_ranks(folder: Path, tasks: dict[str, tuple], count: int = 2) -> list[dict]:
    """Name -> (function of this file, its arguments), one after the other in `count` processes; what each
    process returns, by name."""
    folder.mkdir(exist_ok=True)
    (folder / "tasks").write_bytes(pickle.dumps(tasks))
    port = free_port()
    command = [sys.executable, str(HERE), str(folder)]
    running = [
        subprocess.Popen(command, env=environment(rank, count, port), stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    ended = [process.communicate(timeout=110)[1] for process in running]
    assert not any(process.returncode for process in running), "\n".join(ended)
    return [torch.load(folder / f"answer{rank}", weights_only=False) for rank in range(count)]


def step(method: str, settings: object, dataset: tuple, path: Path, steps: int) -> dict:
    """Train some steps; the loss and the gradients of the last, and the losses, weights and buffers after
    it."""
    loop = loop_of(method, settings, dataset, path)
    loop.run_until(steps, lambda done: None)
    parameters = loop.state.method.named_parameters()
    gradients = {name: value.grad.clone() for name, value in parameters if value.grad is not None}
    return {"losses": loop.state.losses, "gradients": gradients, "state": loop.state.checkpoint().method}


def loop_of(method: str, settings: object, dataset: tuple, path: Path) -> "TrainingLoop":  # noqa: F821
    from jobs import job_of

    from hgrl.pretraining.loop import TrainingLoop
    from hgrl.pretraining.ranks import training_device

    return TrainingLoop(job_of(dataset, settings, path, method=method), training_device(settings.device))


def step_that_never_waits(method: str, settings: object, dataset: tuple, path: Path) -> float:
    """One step under a mode that fails where the host would wait for the device."""
    from waits import NeverWaits

    loop = loop_of(method, settings, dataset, path)
    batch = next(loop.batches())
    with NeverWaits():
        loss = loop.state.train_step(loop.loss, batch)
    return loss.item()


def error(method: str, settings: object, dataset: tuple, path: Path, steps: int) -> tuple[str, str]:
    from hgrl.core.errors import InputError

    try:
        step(method, settings, dataset, path, steps)
    except InputError as caught:
        return type(caught).__name__, str(caught)
    raise AssertionError("nothing was refused")


def stopped(method: str, settings: object, dataset: tuple, path: Path) -> tuple[str, int]:
    """The second rank alone gets SIGTERM, in its second step."""
    import signal

    from hgrl.core.interruption import Stopped
    from hgrl.pretraining.ranks import rank

    loop = loop_of(method, settings, dataset, path)

    def tick(done: int) -> None:
        if rank() == 1 and loop.state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        loop.run_until(6, tick)
    except Stopped as caught:
        return str(caught), loop.state.step
    raise AssertionError("it went on")


def collectives() -> dict:
    """Sums, gathered rows and rows of other ranks with their gradients, and what the ranks agree on."""
    from hgrl.core.errors import InputError
    from hgrl.pretraining import ranks

    rank = ranks.rank()
    own = torch.arange(6.0).view(3, 2).add(10 * rank).requires_grad_()
    owner, index = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[2, 0], [1, 1]])
    found = ranks.rows_of_ranks(own, owner, index)
    (found * (rank + 1.0)).sum().backward()
    told = None
    try:
        ranks.from_first(lambda: (_ for _ in ()).throw(InputError("the disk is full")))
    except InputError as caught:
        told = type(caught).__name__, str(caught)
    return {
        "gathered": ranks.gather(own),
        "found": found.detach(),
        "gradient": own.grad,
        "any": ranks.any_rank(rank == 1),
        "none": ranks.any_rank(False),
        "first": ranks.from_first(lambda: f"rank {rank}"),
        "told": told,
    }


def normalised(images: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype) -> dict:
    """One training pass of this rank's images through a synchronised norm, and the gradients of a weighted
    sum."""
    from hgrl.pretraining.ranks import batch_part
    from hgrl.pretraining.synced_norm import SyncedBatchNorm2d

    torch.manual_seed(0)
    norm = SyncedBatchNorm2d(images.shape[1])
    torch.nn.init.uniform_(norm.weight), torch.nn.init.uniform_(norm.bias)
    mine = batch_part().of(images).to(dtype).requires_grad_()
    output = norm(mine)
    (output.float() * batch_part().of(weights)).sum().backward()
    return {
        "output": output.detach(),
        "images": mine.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        "state": norm.state_dict(),
    }


if __name__ == "__main__":
    from hgrl.pretraining.ranks import processes

    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    with processes(torch.device("cpu")):
        given = pickle.loads((place / "tasks").read_bytes())
        torch.save(
            {name: globals()[task](*arguments) for name, (task, *arguments) in given.items()},
            place / f"answer{os.environ['RANK']}",
        )
