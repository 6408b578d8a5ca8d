"""MSRC's own archive: colours to ids, and splits from the shipped lists."""

import numpy as np
import pytest
from miniature import MSRC, put, write_lists, write_msrc

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.images import read_image
from hgrl.data.sets import listing
from hgrl.data.sets.msrc import COLOURS, UNSCORED, read_colour_mask
from hgrl.data.sources import open_samples

STEMS = ["1_1_s", "5_7_s", "12_30_s"]


def source(split):
    return Source(kind="voc", folder="MSRC", split=split)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """(data root, the true masks of ids)."""
    lists = {"msrc_train": STEMS[::2], "msrc_val": STEMS[1:2]}
    monkeypatch.setattr(listing, "SHIPPED", write_lists(tmp_path / "lists", **lists))
    return tmp_path, write_msrc(tmp_path, STEMS)


def test_the_archive_is_a_labelled_set_of_21_classes(archive):
    root, masks = archive
    samples = open_samples(source("train"), root)
    assert samples.names == ("MSRC/1_1_s", "MSRC/12_30_s") and len(samples.classes) == 21
    assert samples.classes[:3] == ("building", "grass", "tree") and samples.classes[20] == "boat"
    for index, stem in enumerate(STEMS[::2]):
        assert samples.image(index).shape == (64, 96, 3)
        assert np.array_equal(samples.mask(index), masks[stem]) and (masks[stem] == 255).any()
    chosen = open_samples(source("val").model_copy(update={"classes": ("tree", "building")}), root)
    assert set(np.unique(chosen.mask(0))) <= {0, 1, 255}


def test_every_colour_is_the_class_that_a_loop_over_pixels_finds(archive):
    root, _ = archive
    path = root / MSRC / "GroundTruth/5_7_s_GT.bmp"
    names, found = list(COLOURS), read_colour_mask(path)
    for row, ids in zip(read_image(path).tolist(), found.tolist(), strict=True):
        for colour, id_ in zip(row, ids, strict=True):
            named = [name for name in names if COLOURS[name] == tuple(colour)]
            assert id_ == (names.index(named[0]) if named else 255)
    assert len({*COLOURS.values(), *UNSCORED}) == 24


def test_a_stray_colour_is_void_and_a_mask_of_strange_ones_is_one_line(archive):
    root, _ = archive
    path = root / MSRC / "GroundTruth/5_7_s_GT.bmp"
    mask = read_image(path)
    mask[0, 0] = (1, 2, 3)
    put(path, mask)
    assert read_colour_mask(path)[0, 0] == 255
    put(path, mask + 1)
    with pytest.raises(InputError, match=r"5_7_s_GT\.bmp: 100% of its pixels have none of MSRC's colours"):
        read_colour_mask(path)


def test_other_splits_and_missing_files_are_one_line(archive):
    root, _ = archive
    with pytest.raises(InputError, match="no split 'test' of MSRC; choose one of: train, tune, val"):
        open_samples(source("test"), root)
    (root / MSRC / "GroundTruth/1_1_s_GT.bmp").unlink()
    with pytest.raises(InputError, match=r"1_1_s_GT\.bmp: listed in .*msrc_train\.txt\.gz but not there"):
        open_samples(source("train"), root)


@pytest.mark.parametrize(
    ("kind", "folder", "split", "listed"),
    [
        *(("voc", "MSRC", split, f"msrc_{split}") for split in ("train", "tune", "val")),
        *(("voc", "VOC2012", split, f"voc_photos_{split}") for split in ("train_aug", "val")),
        *(("imagenet", "Imagenette", split, f"imagenet_photos_{split}") for split in ("train", "val")),
    ],
)
def test_the_shipped_lists_name_the_photographs_of_profile_photos(real_data, kind, folder, split, listed):
    """Those at hand are the parts of the official sets that the lists name, in the same order."""
    names = [words[0] for words in listing.read_list(listing.SHIPPED / f"{listed}.txt.gz")]
    samples = open_samples(Source(kind=kind, folder=folder, split=split), real_data)
    assert [f"{folder}/{name.split('/')[-1]}" for name in names] == list(samples.names)
    if folder != "MSRC":
        assert open_samples(Source(kind=kind, folder=folder, split=f"photos_{split}"), real_data) == samples
