"""RAFT (Teed and Deng, ECCV 2020): torchvision's networks with its weights, from the reader's own file."""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large, raft_small

from hgrl.core.errors import InputError
from hgrl.evaluation.trackers.motion import Flow

NETWORKS = {"raft_small": raft_small, "raft_large": raft_large}
STRIDE, SMALLEST = 8, 128  # px: sides are multiples of the one, and no shorter than the other


def load_raft(path: Path) -> nn.Module:
    """The network whose state dict a file holds, in evaluation mode.

    InputError, one line, for a file of anything else, or one that loading could run code from."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for build in NETWORKS.values():
            network = build(weights=None).eval()
            if network.state_dict().keys() == state.keys():
                network.load_state_dict(state)
                return network
        names = f"{len(state)} tensors, which are neither's"
    except Exception as error:  # torch and pickle raise a dozen different things on a broken or foreign file
        names = " ".join(str(error).split())[:120]
    reason = f"not torchvision's {' or '.join(NETWORKS)} weights ({names})"
    raise InputError(f"{path}: {reason}; download them again")


def raft_flow(network: nn.Module, device: torch.device) -> Flow:
    """Small frames are enlarged, as its correlation pyramid needs 16 cells; borders are replicated."""
    network = network.to(device)

    @torch.no_grad()
    def flow(frame: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        factor = -(-SMALLEST // min(frame.shape[:2]))
        images = [_prepared(image, factor).to(device) for image in (frame, earlier)]
        found = network(*images)[-1][0].permute(1, 2, 0).float().cpu().numpy()
        height, width = (factor * side for side in frame.shape[:2])
        found = found[:height, :width] / factor
        return cv2.resize(found, frame.shape[1::-1], interpolation=cv2.INTER_AREA) if factor > 1 else found

    return flow


def _prepared(image: np.ndarray, factor: int) -> Tensor:
    """(h, w, 3) uint8 -> (1, 3, H, W) in [-1, 1], enlarged, sides padded to multiples of 8."""
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
