"""Trackers that match no features: the first mask copied, or masks carried along by motion."""

from collections.abc import Callable

import cv2
import numpy as np

from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.evaluation.trackers.propagation import one_hot

Tracker = Callable[[Video, TrackingSettings], list[np.ndarray]]  # to one (H, W) uint8 id map per frame
# (frame, earlier frame), (h, w, 3) uint8 -> (h, w, 2) float32 (u, v): what the one shows at p, the other
# shows at p + (u, v)
Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
# (frame, earlier frame, layers of the earlier frame (n, h, w) float32) -> the layers where the frame has them
Warp = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SMOOTHING = 2.0  # px, of the colour error that tells which of two warped masks to trust


def identity(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
    """The first mask copied to every frame (table 3's first row)."""
    return [one_hot(video.mask(0)).argmax(0).astype(np.uint8)] * len(video)


def warped_by(flow: Flow) -> Warp:
    """Layers looked up bilinearly where the flow points; beyond the image its border."""

    def warp(frame: np.ndarray, earlier: np.ndarray, layers: np.ndarray) -> np.ndarray:
        places = flow(frame, earlier)
        places = places + np.stack(np.meshgrid(*map(np.arange, places.shape[1::-1])), -1)
        places = places.astype(np.float32)
        border = {"borderMode": cv2.BORDER_REPLICATE}
        return np.stack([cv2.remap(layer, places, None, cv2.INTER_LINEAR, **border) for layer in layers])

    return warp


def motion_tracker(warp: Warp) -> Tracker:
    """Soft masks warped from the frame before and from the first frame, on the frames' grid at `short_side`.

    Where the two differ, each counts by the inverse of the squared error with which its own frame, warped in
    the same way, shows the new frame's colours. Not done: occlusion checks."""

    def track(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
        masks, frame = identity(video, settings)[:1], video.frame(0, settings.short_side)
        size, grid = masks[0].shape[::-1], frame.shape[1::-1]
        layers = [cv2.resize(own, grid, interpolation=cv2.INTER_AREA) for own in _soft(video.mask(0))]
        first = previous = frame, np.stack(layers)
        for t in range(1, len(video)):
            frame = video.frame(t, settings.short_side)
            sources = [previous] if t == 1 else [previous, first]
            previous = frame, _carried(frame, sources, warp)
            enlarged = [cv2.resize(own, size, interpolation=cv2.INTER_LINEAR) for own in previous[1]]
            masks.append(np.argmax(enlarged, 0).astype(np.uint8))
        return masks

    return track


def _soft(mask: np.ndarray) -> np.ndarray:
    return one_hot(mask).astype(np.float32)


def _carried(frame: np.ndarray, sources: list[tuple[np.ndarray, np.ndarray]], warp: Warp) -> np.ndarray:
    """(n, h, w) soft masks of a frame from (frame, soft masks) of others."""
    total, weights = 0.0, 0.0
    for earlier, soft in sources:
        layers = np.concatenate([_colours(earlier), soft])
        found = warp(frame, earlier, layers)
        error = ((found[:3] - _colours(frame)) ** 2).sum(0)
        weight = 1 / (cv2.GaussianBlur(error, (0, 0), SMOOTHING) + 1)  # 1: nothing divides by 0
        total, weights = total + weight * found[3:], weights + weight
    return total / weights


def _colours(frame: np.ndarray) -> np.ndarray:
    return frame.transpose(2, 0, 1).astype(np.float32)


def dis_flow(frame: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """DIS flow (Kroeger et al., ECCV 2016; OpenCV's medium preset): a `Flow`."""
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (frame, earlier)]
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*greys, None)


optical_flow = motion_tracker(warped_by(dis_flow))
