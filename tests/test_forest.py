"""Structured forests: growing against a naive split search, files, OpenCV's file against OpenCV itself."""

import cv2
import numpy as np
import pytest
import scipy.io
import skimage.data
from opencv_forest import export_opencv
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings
from hgrl.grouping.edges import MODEL, detect_edges
from hgrl.grouping.forest import growth
from hgrl.grouping.forest.detect import edge_bins, edge_strength
from hgrl.grouping.forest.features import FEATURES, REGULAR, feature_maps, feature_table
from hgrl.grouping.forest.model import Forest, mask_edges, train_forest
from hgrl.grouping.forest.samples import PAD, pad_image, read_training_set


def write_truth(path, segmentations):
    cell = np.empty((1, len(segmentations)), object)
    for k, segmentation in enumerate(segmentations):
        cell[0, k] = {
            "Segmentation": segmentation.astype(np.uint16),
            "Boundaries": np.zeros(segmentation.shape, np.uint8),
        }
    scipy.io.savemat(path, {"groundTruth": cell})


@pytest.fixture(scope="module")
def bsds(tmp_path_factory):
    """Four small images of coloured blobs in BSDS500's layout, two annotators each."""
    root = tmp_path_factory.mktemp("data") / "BSDS500"
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "groundTruth"):
            (root / "data" / kind / split).mkdir(parents=True)
        for k in range(2):
            y, x = np.mgrid[:80, :100]
            segments = 1 + (x + 10 * np.sin(y / 9) > 30 + 30 * k) + 2 * ((y - 40) ** 2 + (x - 60) ** 2 < 400)
            image = generator.integers(30, 220, (5, 3))[segments] + generator.integers(-15, 15, (80, 100, 3))
            Image.fromarray(image.astype(np.uint8)).save(
                root / "data" / "images" / split / f"{split}{k}.jpg", quality=95
            )
            write_truth(
                root / "data" / "groundTruth" / split / f"{split}{k}.mat", [segments, np.minimum(segments, 2)]
            )
    return root


@pytest.fixture(scope="module")
def small(bsds, tmp_path_factory):
    """(forest, its file) of 8 trees of 2,000 patches."""
    path = tmp_path_factory.mktemp("models") / "small.npz"
    return train_forest(bsds, path, trees=8, patches=2000, seed=3), path


def naive_purity(values, classes, threshold):
    total = 0.0
    for side in (classes[values < threshold], classes[values >= threshold]):
        total += ((side == 0).sum() ** 2 + (side == 1).sum() ** 2) / len(side)
    return total


@pytest.mark.parametrize("count", [16, 40, 200])
def test_the_split_is_the_best_of_all(count):
    generator = np.random.default_rng(count)
    values = np.round(generator.random(count), 2).astype(np.float32)  # with ties
    classes = (values + 0.3 * generator.standard_normal(count) > 0.5).astype(np.int64)
    best, threshold = growth.exact_split(values, classes, 4)
    places = np.unique(values)
    tried = [t for t in (places[1:] + places[:-1]) / 2 if 4 <= (values < t).sum() <= count - 4]
    assert best == pytest.approx(max(naive_purity(values, classes, t) for t in tried))
    assert naive_purity(values, classes, threshold) == pytest.approx(best)


def test_the_binned_split_is_nearly_the_best():
    generator = np.random.default_rng(1)
    values = generator.random(5000).astype(np.float32)
    classes = (values + 0.3 * generator.standard_normal(5000) > 0.5).astype(np.int64)
    exact, binned = growth.exact_split(values, classes, 8)[0], growth.binned_split(values, classes, 8)[0]
    assert 0.999 * exact <= binned <= exact


def test_no_split_of_equal_values():
    values, classes = np.ones(400, np.float32), np.arange(400) % 2
    assert (
        growth.exact_split(values, classes, 4)[0] == -1 and growth.binned_split(values, classes, 4)[0] == -1
    )


def test_the_principal_component_is_that_of_dense_algebra():
    bits = (np.random.default_rng(2).random((300, growth.PAIRS)) < 0.5).astype(np.float32)
    bits[:150, :80] = 1  # one strong direction
    mean = bits.mean(0)
    found = growth.principal_component(bits, mean)
    dense = np.linalg.svd(bits - bits.mean(0), full_matrices=False)[2][0]
    assert abs(found @ dense) / np.linalg.norm(found) > 0.99


def test_thresholds_survive_float16():
    values = np.random.default_rng(3).standard_normal(1000).astype(np.float32) * np.float32(0.1)
    rounded = np.array([growth.round_half(value) for value in values], np.float32)
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(rounded, values, rtol=1e-3, atol=1e-7)


def test_features_are_what_their_table_says(bsds):
    data = read_training_set(bsds)
    patches, table = data.draw(50, (0, 0)), feature_table()
    values = np.empty((FEATURES, len(patches.at_map)), np.float32)
    growth.feature_values(patches, np.arange(len(patches.at_map)).astype(np.int32), table, values)
    image = pad_image(np.asarray(Image.open(sorted((bsds / "data" / "images" / "train").iterdir())[0])))
    regular, similarity = feature_maps(image)
    row, column = np.divmod(patches.at_map[0] // 13, regular.shape[1])
    patch, smooth = (
        regular[row : row + 16, column : column + 16],
        similarity[row : row + 16, column : column + 16],
    )
    # channel, column, row
    np.testing.assert_array_equal(values[:REGULAR, 0], patch.transpose(2, 1, 0).ravel())
    assert values[REGULAR, 0] == smooth[1, 1, 0] - smooth[4, 1, 0]
    assert values[-1, 0] == smooth[11, 14, 12] - smooth[14, 14, 12]


def test_masks_lie_in_the_middle_of_their_patches(bsds):
    data = read_training_set(bsds)
    patches = data.draw(200, (1, 0))
    for k in (0, len(patches.at_map) - 1):
        width = patches.map_width[k]
        annotation = max(
            (a for a in data.annotations if a.at_mask <= patches.at_mask[k]), key=lambda a: a.at_mask
        )
        row, column = np.divmod((patches.at_map[k] - annotation.at_map) // 13, width)
        top, left = np.divmod(patches.at_mask[k] - annotation.at_mask, patches.mask_width[k])
        assert (top, left) == (2 * row + 8 - 16, 2 * column + 8 - 16)


def test_half_of_the_patches_lie_near_a_boundary(bsds):
    data = read_training_set(bsds)
    assert all(len(a.positive) > 100 and len(a.negative) > 100 for a in data.annotations)
    assert len(data.draw(400, (0, 0)).at_map) == 400


def test_training_depends_on_the_seed_alone(bsds, small, tmp_path):
    again = train_forest(bsds, tmp_path / "again.npz", trees=8, patches=2000, seed=3, workers=2)
    other = train_forest(bsds, tmp_path / "other.npz", trees=1, patches=2000, seed=4)
    assert (tmp_path / "again.npz").read_bytes() == small[1].read_bytes()
    assert not np.array_equal(other.feature[:50], again.feature[:50])


def test_leaves_hold_at_least_eight_patches_and_a_mask(small):
    forest = small[0]
    assert (forest.child[forest.leaf < 0] > 0).all() and (forest.child[forest.leaf >= 0] == 0).all()
    assert len(forest.masks) == (forest.leaf >= 0).sum() <= 8 * 2000 / 8 * 1.1
    assert mask_edges(forest.masks).any()


def test_a_saved_forest_comes_back(small):
    forest, path = small
    again = Forest.load(path)
    for name in ("first", "child", "feature", "threshold", "leaf", "masks"):
        np.testing.assert_array_equal(getattr(forest, name), getattr(again, name))


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_a_broken_forest_is_refused(small, tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(small[1].read_bytes()[:-500] if content is None else content)
    with pytest.raises(InputError, match=r"broken.npz.*train"):
        Forest.load(path)


def test_a_wrong_data_root_is_named(tmp_path):
    with pytest.raises(InputError, match="BSDS500"):
        train_forest(tmp_path / "BSDS500", tmp_path / "out.npz")
    with pytest.raises(InputError, match="at least 1"):
        train_forest(tmp_path, tmp_path / "out.npz", trees=0)


def test_mask_edges_are_both_sides_of_a_boundary():
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0, :, 8:] = 1
    expected = np.zeros((16, 16), bool)
    expected[:, 7:9] = True
    np.testing.assert_array_equal(mask_edges(mask)[0], expected)


@pytest.fixture(scope="module")
def shipped_in_opencv(tmp_path_factory):
    path = tmp_path_factory.mktemp("opencv") / "model.yml.gz"
    export_opencv(Forest.load(MODEL), path)
    return cv2.ximgproc.createStructuredEdgeDetection(str(path))


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_opencv_agrees_on_photographs(shipped_in_opencv, name):
    photograph = np.ascontiguousarray(getattr(skimage.data, name)()[60:301, 100:381])
    theirs = shipped_in_opencv.detectEdges(pad_image(photograph).astype(np.float32) / np.float32(255))
    height, width = photograph.shape[:2]
    theirs = theirs[PAD : PAD + height, PAD : PAD + width]
    ours = detect_edges(photograph, GroupingSettings(sharpen=0, scales=(1.0,)))
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.995
    sharpened = detect_edges(photograph, GroupingSettings(scales=(1.0,)))
    assert 0.8 < np.corrcoef(theirs.ravel(), sharpened.ravel())[0, 1] < 0.99


def test_opencv_agrees_on_the_exported_file(small, tmp_path):
    forest, path = small[0], tmp_path / "model.yml.gz"
    export_opencv(forest, path)
    detector = cv2.ximgproc.createStructuredEdgeDetection(str(path))
    image = pad_image(np.ascontiguousarray(skimage.data.astronaut()[:120, 180:300]))
    theirs = detector.detectEdges(image.astype(np.float32) / np.float32(255))
    ours = edge_strength(forest, edge_bins(forest), pad_image(image, 8))[8:-8, 8:-8]
    assert theirs.max() > 0.1
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.999
    # a rounded feature may fall on the other side of a threshold
    assert (np.abs(theirs - ours) > 1e-5).mean() < 0.02
    np.testing.assert_array_equal(theirs, detector.detectEdges(image.astype(np.float32) / np.float32(255)))


def test_the_shipped_forest_is_whole_and_small():
    forest = Forest.load(MODEL)
    assert forest.trees == 8 and MODEL.stat().st_size < 25e6
    assert forest.feature.max() < FEATURES and np.isfinite(forest.threshold).all()


def test_real_bsds_is_read(real_data):
    data = read_training_set(real_data / "BSDS500", ("val",))
    assert len(data.annotations) > 400 and len(data.draw(1000, (0, 0)).at_map) > 900
