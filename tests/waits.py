"""A mode that fails where a step would wait: on a card the host would stand still until the device has caught
up."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The value of a tensor, a shape that values decide, a copy from the host's memory (torch.tensor)
WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "lift_fresh",
    "aten::equal",
    "unique",
    "repeat_interleave.Tensor",
    "bincount",
)


class NeverWaits(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function.name()
        by_mask = name.startswith("aten::index") and any(_is_mask(index) for index in _indices(arguments))
        if by_mask or any(waiting in name for waiting in WAITING):
            raise AssertionError(f"{name} waits for the device")
        return function(*arguments, **(options or {}))


def _indices(arguments):
    return arguments[1] if len(arguments) > 1 and isinstance(arguments[1], (list, tuple)) else ()


def _is_mask(index):
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
