"""Trackers that read no features: the first mask copied, and carried along by optical flow."""

from itertools import pairwise

import cv2
import numpy as np

from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.evaluation.trackers.propagation import one_hot


def identity(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
    """The first mask copied to every frame (table 3's first row)."""
    return [one_hot(video.mask(0)).argmax(0).astype(np.uint8)] * len(video)


def optical_flow(video: Video, settings: TrackingSettings) -> list[np.ndarray]:
    """DIS flow (Kroeger et al., ECCV 2016; OpenCV's medium preset) at `short_side`, chained over frames.

    Each pixel is traced back to the first frame through the flows t -> t-1 and takes the id it lands on; a
    trace that leaves the image stays at the border. Not done: occlusion checks."""
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    frames = (video.frame(t, settings.short_side) for t in range(len(video)))
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    here = np.stack(np.meshgrid(*map(np.arange, greys[0].shape[::-1])), -1).astype(np.float32)  # h, w, (x, y)
    origin, masks = here, identity(video, settings)[:1]
    size = masks[0].shape[::-1]
    scale = np.divide(size, greys[0].shape[::-1]).astype(np.float32)
    for previous, grey in pairwise(greys):
        back = here + flow.calc(grey, previous, None)
        origin = cv2.remap(origin, back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fine = (cv2.resize(origin, size, interpolation=cv2.INTER_LINEAR) + 0.5) * scale - 0.5  # mask pixels
        masks.append(cv2.remap(masks[0], fine, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))
    return masks
