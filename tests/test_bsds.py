"""BSDS500's folders and mat files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hgrl.core.errors import InputError
from hgrl.data.scenes.files import ground_truth_mat
from hgrl.data.sets.bsds import load_ucm2, open_bsds

HALVES = np.array([[1, 1, 2, 2]] * 3, dtype=np.uint16)
ROWS = np.array([[1] * 4, [2] * 4, [3] * 4], dtype=np.uint16)


def bsds(home, mat=None):
    for folder in ("images", "groundTruth"):
        (home / "data" / folder / "test").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(home / "data/images/test/2018.jpg")
    (home / "data/images/test/Thumbs.db").touch()
    (home / "data/groundTruth/test/2018.mat").write_bytes(
        ground_truth_mat([HALVES, ROWS]) if mat is None else mat
    )


@pytest.mark.parametrize("home", ["BSDS500", "BSDS500/BSDS500", "BSDS500/BSR/BSDS500"])
def test_every_annotator_is_read(tmp_path, home):
    bsds(tmp_path / home)
    samples = open_bsds(tmp_path, "BSDS500", "test")
    assert samples.names == ("BSDS500/2018",) and samples.masks is None
    first, second = samples.ground_truth(0)
    assert first.dtype == np.uint16 and np.array_equal(first, HALVES) and np.array_equal(second, ROWS)
    assert samples.boundaries(0)[0].tolist() == [[False, True, False, False]] * 3
    assert samples.subset([0]).ground_truth(0)[1].max() == 3


def test_missing_ground_truth(tmp_path):
    bsds(tmp_path / "BSDS500")
    (tmp_path / "BSDS500/data/groundTruth/test/2018.mat").unlink()
    with pytest.raises(InputError, match=r"2018\.mat: no such file; "):
        open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)


def test_damaged_ground_truth(tmp_path):
    whole = ground_truth_mat([HALVES])
    for content in (b"", b"not a mat file", whole[: len(whole) // 2]):
        bsds(tmp_path / "BSDS500", content)
        with pytest.raises(InputError, match=r"2018\.mat: not a BSDS500 ground truth") as caught:
            open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)
        assert "\n" not in str(caught.value)


def test_mat_file_of_something_else(tmp_path):
    bsds(tmp_path / "BSDS500")
    savemat(tmp_path / "BSDS500/data/groundTruth/test/2018.mat", {"ucm2": np.zeros((3, 4))})
    with pytest.raises(InputError, match=r"2018\.mat: not a BSDS500 ground truth"):
        open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)


def test_ground_truth_of_another_size(tmp_path):
    bsds(tmp_path / "BSDS500", ground_truth_mat([HALVES[:2]]))
    with pytest.raises(InputError, match=r"2018\.mat: Segmentation is 4x2 but its image .*2018\.jpg is 4x3"):
        open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)


def mat(segmentation, boundaries=None):
    """A ground truth of one annotator, whatever its arrays are."""
    cell, buffer = np.empty((1, 1), dtype=object), io.BytesIO()
    boundaries = np.zeros((3, 4), np.uint8) if boundaries is None else boundaries
    cell[0, 0] = {"Segmentation": segmentation, "Boundaries": boundaries}
    savemat(buffer, {"groundTruth": cell})
    return buffer.getvalue()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0, -1, 1.5, 65536])
def test_region_ids_that_are_not_whole_numbers_from_1(tmp_path, wrong):
    labels = HALVES.astype(np.float64)
    labels[1, 2] = wrong
    bsds(tmp_path / "BSDS500", mat(labels))
    with pytest.raises(InputError, match=r"2018\.mat: Segmentation is not of whole numbers 1 to 65535"):
        open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)


@pytest.mark.parametrize("wrong", [np.nan, 2, -1, 0.5])
def test_boundaries_that_are_not_0_and_1(tmp_path, wrong):
    bsds(tmp_path / "BSDS500", mat(HALVES, np.full((3, 4), wrong)))
    with pytest.raises(InputError, match=r"2018\.mat: Boundaries is not of whole numbers 0 to 1"):
        open_bsds(tmp_path, "BSDS500", "test").boundaries(0)


@pytest.mark.parametrize("labels", [np.stack([HALVES] * 3, axis=2), "text", np.array([["a"]], dtype=object)])
def test_ground_truth_that_is_no_map(tmp_path, labels):
    bsds(tmp_path / "BSDS500", mat(labels))
    with pytest.raises(InputError, match=r"2018\.mat: Segmentation is .* of shape .*, not a map") as caught:
        open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)
    assert "\n" not in str(caught.value)


def test_whole_numbers_stored_as_doubles_are_read(tmp_path):
    bsds(tmp_path / "BSDS500", mat(HALVES.astype(np.float64)))
    (labels,) = open_bsds(tmp_path, "BSDS500", "test").ground_truth(0)
    assert labels.dtype == np.uint16 and np.array_equal(labels, HALVES)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.bool_])
def test_a_ucm2_of_integers_0_and_1_is_refused_rather_than_scored_as_nothing(tmp_path, kind):
    savemat(tmp_path / "a.mat", {"ucm2": np.eye(7).astype(kind)})
    with pytest.raises(InputError, match=r"a\.mat: ucm2 is uint\d+ of 0 and 1 alone; save it as double"):
        load_ucm2(tmp_path / "a.mat")
    savemat(tmp_path / "a.mat", {"ucm2": np.eye(7)})
    assert load_ucm2(tmp_path / "a.mat").max() == 1


def test_missing_folder_and_split(tmp_path):
    with pytest.raises(InputError, match="BSDS500: no such folder"):
        open_bsds(tmp_path, "BSDS500", "test")
    bsds(tmp_path / "BSDS500")
    with pytest.raises(InputError, match=r"train: no such folder; .*: test"):
        open_bsds(tmp_path, "BSDS500", "train")


@pytest.mark.parametrize(("split", "count"), [("train", 200), ("val", 100), ("test", 200)])
def test_real_bsds(real_data, split, count):
    samples = open_bsds(real_data, "BSDS500", split)
    assert len(samples) == count
    for index in (0, count - 1):
        segmentations, boundaries = samples.ground_truth(index), samples.boundaries(index)
        assert 4 <= len(segmentations) == len(boundaries) <= 9
        assert all(
            labels.min() == 1 and labels.shape == samples.image(index).shape[:2] for labels in segmentations
        )
        assert all(0 < edges.mean() < 0.2 for edges in boundaries)
