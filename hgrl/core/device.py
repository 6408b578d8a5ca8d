"""Which device computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hgrl.core.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of a setting `device`; `auto` is the first of CUDA, Apple's MPS and the CPU.

    Raises InputError for a device that this machine does not have."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    problem, cards = f"setting 'device': {name!r} is", torch.cuda.device_count()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"{problem} no device; choose auto, cpu, cuda, cuda:N or mps") from None
    if not there.get(device.type) or (device.type == "cuda" and (device.index or 0) >= cards):
        raise InputError(f"{problem} not on this machine ({cards} CUDA cards); choose auto or cpu")
    return device


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Hold torch to one thread on a CPU: sums over several threads differ in their last digits."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if device.type == "cpu" else threads)
        yield
    finally:
        torch.set_num_threads(threads)
