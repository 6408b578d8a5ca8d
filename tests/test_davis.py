"""DAVIS's folders; how its two kinds of mask are told apart is in test_samples."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.data.sets.davis import open_davis


def davis(home, sequences=("camel", "bear"), frames=3):
    for name in sequences:
        for t in range(frames):
            image, mask = np.zeros((2, 4, 3)), np.array([[0, 1, 2, 255]] * 2)
            for folder, suffix, array in (("JPEGImages", "jpg", image), ("Annotations", "png", mask)):
                path = home / folder / "480p" / name / f"{t:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    (home / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (home / "ImageSets/2017/val.txt").write_text("\n".join(sequences) + "\n")


def test_sequences_in_the_lists_order(tmp_path):
    davis(tmp_path / "DAVIS")
    videos = open_davis(tmp_path, "DAVIS", "val")
    assert [video.name for video in videos] == ["camel", "bear"] and [len(video) for video in videos] == [
        3,
        3,
    ]
    assert (
        [path.stem for path in videos[0].frames]
        == [path.stem for path in videos[0].masks]
        == ["00000", "00001", "00002"]
    )
    assert videos[0].frame(0).shape == (2, 4, 3) and videos[0].mask(0).tolist() == [[0, 1, 2, 255]] * 2


def test_missing_mask(tmp_path):
    davis(tmp_path / "DAVIS")
    (tmp_path / "DAVIS/Annotations/480p/bear/00001.png").unlink()
    with pytest.raises(InputError, match=r"bear/00001\.png: listed in .*bear but not there"):
        open_davis(tmp_path, "DAVIS", "val")


def test_missing_sequence_split_and_folder(tmp_path):
    with pytest.raises(InputError, match="DAVIS: no such folder"):
        open_davis(tmp_path, "DAVIS", "val")
    davis(tmp_path / "DAVIS")
    with pytest.raises(InputError, match=r"train\.txt: no such split file"):
        open_davis(tmp_path, "DAVIS", "train")
    (tmp_path / "DAVIS/ImageSets/2017/train.txt").write_text("unicorn\n")
    with pytest.raises(InputError, match=r"unicorn: listed in .*train\.txt but not there"):
        open_davis(tmp_path, "DAVIS", "train")


def test_real_davis(real_data):
    videos = open_davis(real_data, "DAVIS", "val")
    assert len(videos) == 8 and sum(len(video) for video in videos) == 473
    for video in videos:
        assert video.is_binary and np.unique(video.mask(0)).tolist() == [0, 1]
        assert video.mask(0).shape == video.frame(0).shape[:2] == (480, 854)
