"""The stage `data`: drawn once, listed in a manifest, and every fault of a real data set is one line."""

import numpy as np
import pytest
from conftest import ages, told, write_profile
from PIL import Image

from hgrl.data.stage import is_prepared, prepare_data


def test_data_made_again_is_not_drawn_again_and_its_manifest_is_equal(experiment):
    files = experiment().files
    before, manifest = ages(files.data / "VOC2012"), files.manifest.read_bytes()
    answer = prepare_data(experiment())
    assert ages(files.data / "VOC2012") == before
    assert files.manifest.read_bytes() == manifest
    counts = {name: found["files"] for name, found in answer["sets"].items()}
    assert counts == {"pretrain": 6, "scenes.train": 4, "scenes.val": 4, "labels": 4, "videos": 4}
    assert sum(answer["class_frequency"]["scenes"].values()) == pytest.approx(1)


def test_data_are_prepared_when_the_manifest_is_of_the_settings(pipeline, experiment):
    assert is_prepared(experiment())
    write_profile(pipeline, {"data.fraction": 0.5})
    assert not is_prepared(experiment())
    write_profile(pipeline)
    experiment().files.manifest.unlink()
    assert not is_prepared(experiment())


def test_a_missing_data_root_is_one_line_with_the_path_and_the_variable(pipeline, experiment, monkeypatch):
    write_profile(pipeline, {"data.scenes": None})
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "nowhere"))
    line = told(prepare_data, experiment())
    assert str(pipeline / "nowhere") in line and "HGRL_DATA" in line


def test_a_data_root_without_the_data_set_is_one_line_with_the_path_and_the_variable(
    pipeline, experiment, monkeypatch
):
    write_profile(pipeline, {"data.scenes": None})
    (pipeline / "empty").mkdir()
    monkeypatch.setenv("HGRL_DATA", str(pipeline / "empty"))
    line = told(prepare_data, experiment())
    assert str(pipeline / "empty" / "VOC2012") in line and "HGRL_DATA" in line


def test_a_mask_of_another_size_than_its_image_is_named_when_the_data_are_looked_through(experiment):
    mask = sorted((experiment().files.data / "VOC2012/SegmentationClass").glob("val_*.png"))[0]
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(mask)
    assert f"{mask}: mask is 7x5 but its image" in told(prepare_data, experiment())
