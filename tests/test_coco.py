"""COCO's folders, and class masks from its annotations."""

import json

import numpy as np
import pytest
from miniature import COCO, write_coco

from hgrl.core.errors import InputError
from hgrl.core.settings import Source
from hgrl.data.sets.coco import open_coco, open_coco_masks
from hgrl.data.sources import open_samples

ANNOTATIONS = f"{COCO}/annotations/instances_train2014.json"


def test_all_images_serve_for_pretraining_annotated_or_not(tmp_path):
    names = write_coco(tmp_path)
    (tmp_path / ANNOTATIONS).unlink()
    samples = open_samples(Source(kind="coco", folder="coco", split="train2014"), tmp_path)
    assert [path.name for path in samples.images] == names and samples.masks is None
    assert samples.names[0] == "coco/COCO_train2014_000000000009" and samples.image(2).shape == (64, 80, 3)


def test_masks_hold_the_classes_in_the_order_of_their_ids(tmp_path):
    write_coco(tmp_path)
    samples = open_samples(Source(kind="coco-masks", folder="coco", split="train2014"), tmp_path)
    assert samples.classes == ("background", "person", "dog")
    mask = samples.mask(0)
    expected = np.zeros((64, 80), np.uint8)
    expected[10:40, 10:30] = 1  # the polygon 10..30 x 10..40
    expected[20:30, 30:50] = 2
    expected[20:30, 20:30] = 255  # of two classes
    expected[:5, 70] = 1  # the crowd
    assert mask.dtype == np.uint8 and np.array_equal(mask, expected)
    assert not samples.mask(2).any()  # an image without objects
    assert np.array_equal(samples.subset([1]).mask(0), samples.mask(1))


def change(tmp_path, edit):
    content = json.loads((tmp_path / ANNOTATIONS).read_text())
    edit(content)
    (tmp_path / ANNOTATIONS).write_text(json.dumps(content))


def test_two_objects_of_one_class_overlap_without_void(tmp_path):
    write_coco(tmp_path)
    change(tmp_path, lambda content: [note.update(category_id=18) for note in content["annotations"]])
    assert np.unique(open_coco_masks(tmp_path, "coco", "train2014").mask(0)).tolist() == [0, 2]


def test_an_image_that_the_annotations_do_not_list(tmp_path):
    write_coco(tmp_path)
    change(tmp_path, lambda content: content["images"].pop())
    with pytest.raises(InputError, match=r"000000000023\.jpg: not in .*instances_train2014\.json"):
        open_coco_masks(tmp_path, "coco", "train2014").mask(2)


def test_an_image_of_another_size_than_its_entry(tmp_path):
    write_coco(tmp_path)
    change(tmp_path, lambda content: content["images"][0].update(width=81))
    with pytest.raises(InputError, match=r"000000000009\.jpg: mask is 81x64 but its image is 80x64"):
        open_coco_masks(tmp_path, "coco", "train2014").mask(0)


@pytest.mark.parametrize(
    "content", [None, "", "no json", "[]", "{}", '{"images": [], "annotations": [], "categories": []}']
)
def test_annotations_that_are_missing_or_damaged(tmp_path, content):
    write_coco(tmp_path)
    (tmp_path / ANNOTATIONS).unlink() if content is None else (tmp_path / ANNOTATIONS).write_text(content)
    with pytest.raises(InputError, match=r"instances_train2014\.json: ") as caught:
        open_coco_masks(tmp_path, "coco", "train2014")
    assert "\n" not in str(caught.value)


def test_missing_folder_and_split(tmp_path):
    with pytest.raises(InputError, match="coco: no such folder"):
        open_coco(tmp_path, "coco", "train2014")
    write_coco(tmp_path)
    with pytest.raises(InputError, match=r"val2014: no such folder; .*: annotations, train2014"):
        open_coco(tmp_path, "coco", "val2014")


def test_real_coco(real_data):
    assert len(open_coco(real_data, "coco128-seg", "train2017")) == 128  # the layout `images/<split>`
