"""Trackers: (video, settings) -> one (H, W) uint8 id map per frame, from the first frame's mask."""

from collections.abc import Callable

import numpy as np

from hgrl.core.settings import TrackingSettings
from hgrl.data.samples import Video
from hgrl.evaluation.trackers.motion import identity, optical_flow

Tracker = Callable[[Video, TrackingSettings], list[np.ndarray]]
TRACKERS: dict[str, Tracker] = {"identity": identity, "flow": optical_flow}  # table 3's rows without features
