"""A BSDS500 of three images, and results for it of each kind that `bsds-bench` reads."""

import numpy as np
from conftest import three_regions
from PIL import Image
from scipy.io import savemat

from hgrl.core import files
from hgrl.data.scenes.files import ground_truth_mat
from hgrl.metrics.boundaries import contour_strength

TREE = three_regions(24, 32)
FINE, COARSE = TREE.labels.astype(np.uint16) + 1, TREE.cut(0.5).astype(np.uint16) + 1
NAMES = ("1", "2", "3")


def write_data_set(root):
    """Write the data set and give its folder; the annotators see three regions and two."""
    for folder in ("images", "groundTruth"):
        (root / "data" / folder / "test").mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(root / f"data/images/test/{name}.jpg")
        (root / f"data/groundTruth/test/{name}.mat").write_bytes(ground_truth_mat([FINE, COARSE]))
    return root


def write_discs(root):
    """Two training images of 40x52, a bright disc on dark ground, with two annotators who agree."""
    for folder in ("images", "groundTruth"):
        (root / "data" / folder / "train").mkdir(parents=True)
    y, x = np.mgrid[:40, :52]
    for index, (cy, cx) in enumerate([(18, 20), (22, 30)]):
        disc = (y - cy) ** 2 + (x - cx) ** 2 < 100
        image = np.random.default_rng(index).integers(0, 40, (40, 52, 3)) + 170 * disc[..., None]
        Image.fromarray(image.astype(np.uint8)).save(root / f"data/images/train/{index}.jpg", quality=95)
        labels = (disc + 1).astype(np.uint16)
        (root / f"data/groundTruth/train/{index}.mat").write_bytes(ground_truth_mat([labels, labels]))


def ucm2_of(tree):
    """The double-size contour map of a tree, cell by cell."""
    height, width = tree.labels.shape
    ucm2, distances = np.zeros((2 * height + 1, 2 * width + 1)), tree.distances()
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < height and x + dx < width:
                    ucm2[2 * y + 1 + dy, 2 * x + 1 + dx] = distances[
                        tree.labels[y, x], tree.labels[y + dy, x + dx]
                    ]
    for y in range(2, 2 * height, 2):
        for x in range(2, 2 * width, 2):
            ucm2[y, x] = max(ucm2[y - 1, x], ucm2[y + 1, x], ucm2[y, x - 1], ucm2[y, x + 1])
    # the frame repeats its neighbour, or regions would be joined around the contours' ends
    ucm2[0], ucm2[-1] = ucm2[1], ucm2[-2]
    ucm2[:, 0], ucm2[:, -1] = ucm2[:, 1], ucm2[:, -2]
    return ucm2


def write_results(folder, kind, nested=False):
    """Write results of a kind for all images and give their folder."""
    home = folder / "BSDS500" if nested else folder
    home.mkdir(parents=True)
    strength = (contour_strength(TREE.labels, TREE.distances()) * 255).astype(np.uint8)
    for name in NAMES:
        if kind == "trees":
            TREE.save(home / f"{name}.npz")
        elif kind == "ucm":
            savemat(home / f"{name}.mat", {"ucm2": ucm2_of(TREE)})
        else:
            files.write_png(home / f"{name}.png", strength)
    return folder
