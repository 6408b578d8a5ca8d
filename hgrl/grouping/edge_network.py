"""Edge maps by a trained edge network, HED or PiDiNet: reading its file, asking it. Needs torch."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.data.normalise import normalise
from hgrl.grouping.hed.network import HED
from hgrl.grouping.pidinet.network import PiDiNet

STRIDE = 16  # of HED's last stage; PiDiNet's is 8
PAD = 8  # reflected px around an image: the network's own zeros at the border look like an edge


@torch.inference_mode()
def detect(images: Sequence[np.ndarray], model: nn.Module, mirror: bool = False) -> list[np.ndarray]:
    """Edge strength of images (H, W, 3) uint8 RGB, or grey (H, W), of one size, whatever it is.

    Returns float32 maps (H, W) in [0, 1]. mirror: the mean with the answer to the mirrored image. All images
    go through the network at once: on a GPU a batch fills it, on a CPU it costs memory and wins nothing."""
    height, width = images[0].shape[:2]
    below, right = (PAD + -(side + 2 * PAD) % STRIDE for side in (height, width))
    coloured = [np.repeat(one[..., None], 3, axis=2) if one.ndim == 2 else one for one in images]
    more = ((0, 0), (PAD, below), (PAD, right), (0, 0))
    padded = np.pad(np.stack(coloured), more, mode="symmetric")
    pixels = torch.from_numpy(padded).permute(0, 3, 1, 2).to(next(model.parameters()).device)
    edges = _ask(pixels, model)
    if mirror:
        edges = (edges + _ask(pixels.flip(3), model).flip(3)) / 2
    inside = edges[:, 0, PAD : PAD + height, PAD : PAD + width]
    return list(inside.float().cpu().numpy())


def _ask(pixels: Tensor, model: nn.Module) -> Tensor:
    return torch.sigmoid(model(normalise(pixels).contiguous(memory_format=torch.channels_last))[-1])


def load_network(path: Path, kind: str, device: str = "cpu") -> nn.Module:
    """The network of a weights file, of kind `hed` or `pidinet` (folded), read once per process.

    InputError if the file is missing, foreign, of the other kind or half-trained."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; train the edge network with `python -m hgrl train-{kind}`")
    return _load(path, path.stat().st_mtime_ns, kind, device)


@lru_cache(maxsize=1)
def _load(path: Path, changed: int, kind: str, device: str) -> nn.Module:
    saved, command = load_checkpoint(path), f"`python -m hgrl train-{kind}`"
    if not isinstance(saved.identity, dict) or saved.identity.get("kind") != kind:
        raise InputError(f"{path}: holds no edge network of kind {kind}; give a file that {command} wrote")
    if not saved.complete:
        steps = f"trained to step {saved.step} of {saved.total_steps} only"
        raise InputError(f"{path}: {steps}; run {command} again to finish it")
    settings = saved.identity["settings"]
    if kind == "hed":
        model = HED(settings["width"], saved.identity["batch_norm"])
    else:
        model = PiDiNet(settings["size"])
    model.load_state_dict(saved.method)
    model = model.fold() if kind == "pidinet" else model
    return model.to(device, memory_format=torch.channels_last).eval()
