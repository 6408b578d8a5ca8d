"""Scores of any partitions, for the tests of what the product scores along a hierarchy."""

import numpy as np

from hgrl.metrics.regions import Hierarchy, RegionCounts, hierarchy_counts


def region_counts(partitions, truths) -> RegionCounts:
    """`hierarchy_counts` of partitions (H, W) that need not be nested: groups of their refinement."""
    flat = np.array([np.ravel(partition) for partition in partitions]).astype(np.int64)
    groups, labels = np.unique(flat, axis=1, return_inverse=True)
    return hierarchy_counts(Hierarchy(labels.reshape(np.shape(partitions[0])), groups), truths)
