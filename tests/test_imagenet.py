"""ImageNet's folders."""

import numpy as np
import pytest
from miniature import write_imagenet

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.sets.unlabelled import open_imagenet
from hgrl.data.sources import open_samples


@pytest.fixture
def root(tmp_path):
    write_imagenet(tmp_path)
    return tmp_path


def test_train_folders(root):
    samples = open_samples(Source(kind="imagenet", folder="ImageNet", split="train"), root)
    assert (
        samples.names[:3] == ("ImageNet/n01440764_0", "ImageNet/n01440764_1", "ImageNet/n01440765_0")
        and len(samples) == 6
    )
    assert samples.masks is None and samples.image(5).shape == (20, 24, 3)
    assert samples.classes == ("n01440764", "n01440765", "n01440766") and samples.labels == (0, 0, 1, 1, 2, 2)
    part = samples.subset([4, 1])
    assert (
        part.labels == (2, 0) and part.shown(0).tolist() == [0, 0, 1] and part.shown(1).tolist() == [1, 0, 0]
    )


def test_val_flat_and_in_folders(root, tmp_path):
    flat = open_imagenet(root, "ImageNet", "val")
    write_imagenet(tmp_path / "other", flat_val=False)
    foldered = open_imagenet(tmp_path / "other", "ImageNet", "val")
    assert flat.names == foldered.names and len(flat) == 3
    assert foldered.images[0].parent.name == "n01440764"
    assert flat.labels is None and foldered.labels == (0, 1, 2)


def test_missing_folder_split_and_images(root, tmp_path):
    with pytest.raises(InputError, match=r"ImageNet: no test in it"):
        open_imagenet(root, "ImageNet", "test")
    (tmp_path / "empty/ImageNet/train/n01440764").mkdir(parents=True)
    with pytest.raises(InputError, match=r"train: no images in it; `python -m hgrl fetch imagenet`"):
        open_imagenet(tmp_path / "empty", "ImageNet", "train")


def test_real_imagenette(real_data):
    samples = open_imagenet(real_data, "Imagenette", "train")
    assert len(samples) == 2400
    assert len(open_imagenet(real_data, "Imagenette", "val")) == 400
    assert samples.image(0).shape == (160, 160, 3)
    assert len(samples.classes) == 10 and np.bincount(samples.labels).tolist() == [240] * 10
