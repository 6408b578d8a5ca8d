"""The unit of d_T, in which sigma_p is read."""

from dataclasses import replace

import numpy as np

from hgrl.grouping.region_tree import RegionTree


def in_height_unit(tree: RegionTree, unit: str | float, auto_scale: float) -> RegionTree:
    """The tree with float32 heights in the unit in which sigma_p is read; the paper leaves it open.

    unit: `raw` (UCM heights in [0, 1]), a factor, `rank` (the merge's order, over the number of merges), or
    `auto` (the factor `auto_scale`, measured over the training trees)."""
    if unit == "rank":
        merges = len(tree.heights)
        return replace(tree, heights=np.arange(1, merges + 1, dtype=np.float32) / max(merges, 1))
    factor = {"raw": 1.0, "auto": auto_scale}.get(unit, unit)
    return replace(tree, heights=tree.heights * np.float32(factor))
