"""The unit of the heights, in which sigma_p is read."""

import numpy as np
import pytest
from conftest import one_region, three_regions

from hgrl.grouping.region_tree import RegionTree
from hgrl.sampling.heights import in_height_unit


def test_height_units():
    tree = three_regions()
    assert in_height_unit(tree, "raw", 10.0).heights.tolist() == [0.25, 0.75]
    assert in_height_unit(tree, "auto", 10.0).heights.tolist() == [2.5, 7.5]
    assert in_height_unit(tree, 4.0, 10.0).heights.tolist() == [1.0, 3.0]
    assert in_height_unit(tree, "rank", 10.0).heights.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("unit", ["raw", "rank", "auto", 4.0])
def test_a_unit_changes_neither_the_order_of_merges_nor_the_regions(unit):
    tree = RegionTree(
        three_regions().labels, np.array([[1, 2], [0, 3]], np.uint8), np.array([0.2, 0.9], np.float32)
    )
    changed = in_height_unit(tree, unit, 3.0)
    assert changed.heights.dtype == np.float32
    assert (np.argsort(changed.heights) == np.argsort(tree.heights)).all()
    assert changed.labels is tree.labels and changed.children is tree.children
    assert tree.heights.tolist() == [np.float32(0.2), np.float32(0.9)]  # the tree itself stays
    distances = changed.distances()
    assert (distances[0, 1], distances[1, 2]) == (changed.heights[1], changed.heights[0])


@pytest.mark.parametrize("unit", ["raw", "rank", "auto", 4.0])
def test_a_tree_of_one_region_has_every_unit(unit):
    assert in_height_unit(one_region(), unit, 3.0).distances().tolist() == [[0.0]]
