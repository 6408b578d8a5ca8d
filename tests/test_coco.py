"""COCO's folders."""

import pytest
from miniature import write_coco

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.sets.unlabelled import open_coco
from hgrl.data.sources import open_samples


def test_all_images_serve_for_pretraining(tmp_path):
    names = write_coco(tmp_path)
    samples = open_samples(Source(kind="coco", folder="coco", split="train2014"), tmp_path)
    assert [path.name for path in samples.images] == names and samples.masks is None
    assert samples.names[0] == "coco/COCO_train2014_000000000009" and samples.image(2).shape == (64, 80, 3)


def test_missing_folder_and_split(tmp_path):
    with pytest.raises(InputError, match="coco: no such folder"):
        open_coco(tmp_path, "coco", "train2014")
    write_coco(tmp_path)
    with pytest.raises(InputError, match=r"val2014: no such folder; .*: train2014"):
        open_coco(tmp_path, "coco", "val2014")


def test_real_coco(real_data):
    assert len(open_coco(real_data, "coco128-seg", "train2017")) == 128  # the layout `images/<split>`
