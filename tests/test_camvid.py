"""CamVid's lists of pairs, as they come in several copies."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.data.sets.camvid import open_camvid


def camvid(home, line="train/a.png trainannot/a.png"):
    for path, array in (
        ("train/a.png", np.zeros((2, 3, 3))),
        ("trainannot/a.png", np.array([[0, 5, 10], [11, 11, 3]])),
    ):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(home / path)
    (home / "train.txt").write_text(line + "\n")


@pytest.mark.parametrize("prefix", ["", "/SegNet/CamVid/", "CamVid/"])
def test_pairs_with_and_without_a_prefix(tmp_path, prefix):
    camvid(tmp_path / "CamVid", f"{prefix}train/a.png {prefix}trainannot/a.png")
    samples = open_camvid(tmp_path, "CamVid", "train")
    assert samples.names == ("CamVid/a",) and len(samples.classes) == 11
    assert samples.mask(0).tolist() == [[0, 5, 10], [255, 255, 3]]


def test_line_that_is_not_a_pair(tmp_path):
    camvid(tmp_path / "CamVid", "train/a.png")
    with pytest.raises(InputError, match=r"train\.txt: expected `image label`.*'train/a\.png'"):
        open_camvid(tmp_path, "CamVid", "train")


def test_listed_file_that_is_missing(tmp_path):
    camvid(tmp_path / "CamVid")
    (tmp_path / "CamVid/trainannot/a.png").unlink()
    with pytest.raises(InputError, match=r"trainannot/a\.png: listed in .*train\.txt but not there"):
        open_camvid(tmp_path, "CamVid", "train")


def test_missing_folder_and_split(tmp_path):
    with pytest.raises(InputError, match="CamVid: no such folder"):
        open_camvid(tmp_path, "CamVid", "train")
    camvid(tmp_path / "CamVid")
    with pytest.raises(InputError, match=r"val\.txt: no such split file"):
        open_camvid(tmp_path, "CamVid", "val")


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_real_camvid(real_data, split, count):
    samples = open_camvid(real_data, "CamVid", split)
    assert len(samples) == count
    assert samples.mask(0).shape == samples.image(0).shape[:2] == (360, 480)
    assert set(np.unique(samples.mask(0))) <= {*range(11), 255}
