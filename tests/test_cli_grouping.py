"""`python -m hgrl group` and `train-hed`: photographs of all kinds, and one line for every mistake."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hgrl import __main__ as cli
from hgrl.core.data_settings import ScenesSettings
from hgrl.data.scenes.draw import make_scenes
from hgrl.grouping import group as grouping
from hgrl.grouping.region_tree import RegionTree


def fails(capsys, *arguments):
    """The one line on stderr of a command that fails."""
    assert cli.main(list(arguments)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("hgrl: ")
    return lines[0]


@pytest.fixture
def photos(tmp_path):
    """Ten odd images: eight that can be grouped, two that cannot be read."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, 32:] = (200, 60, 40)
    colours = (colours + random.integers(0, 30, colours.shape)).astype(np.uint8)
    image = Image.fromarray(colours)
    image.save(folder / "good.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 257).save(folder / "bits16.png")
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "alpha.png")
    Image.new("RGB", (1, 1), "red").save(folder / "pixel.png")
    Image.new("RGB", (40, 40), "grey").save(folder / "constant.png")
    turned = Image.Exif()
    turned[274] = 6
    image.save(folder / "turned.jpg", exif=turned)
    (folder / "text.jpg").write_text("no image")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:200])
    return folder


def test_an_unknown_preset_names_the_known_ones(capsys, tmp_path):
    message = fails(capsys, "group", str(tmp_path), "--out", str(tmp_path / "trees"), "--preset", "slow")
    assert "'slow'" in message and "fast, best" in message


def test_a_folder_with_odd_and_bad_images_is_grouped_as_far_as_it_can_be(photos, capsys, monkeypatch):
    out = photos / "trees"  # inside the folder: what is written there is not read as a photograph later
    arguments = ["group", str(photos), "--out", str(out)]
    assert cli.main(arguments) == 1
    output = capsys.readouterr()
    assert f"8 of 10 images have a region tree in {out}" in output.out
    bad = [line for line in output.err.splitlines() if line.startswith("hgrl: ")]
    assert [line.split(":")[1].strip() for line in bad] == ["photos/cut", "photos/text"]
    assert str(photos / "cut.png") in bad[0] and "not an image" in bad[1]
    shapes = {path.stem: RegionTree.load(path).labels.shape for path in out.rglob("*.npz")}
    same = dict.fromkeys(("good", "cmyk", "bits16", "grey", "alpha"), (48, 64))
    assert shapes == {**same, "pixel": (1, 1), "constant": (40, 40), "turned": (64, 48)}
    assert RegionTree.load(out / "photos/constant.npz").regions == 1
    assert RegionTree.load(out / "photos/good.npz").regions > 1
    assert not list(out.rglob("*.png"))

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(grouping, "region_tree", lambda image, *rest: pytest.fail("grouped again"))
    assert cli.main(arguments) == 1
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    capsys.readouterr()


def test_good_images_alone_are_exit_status_0(photos, capsys):
    assert (
        cli.main(
            [
                "group",
                str(photos / "good.png"),
                str(photos / "grey.png"),
                "--out",
                str(photos.parent / "trees"),
            ]
        )
        == 0
    )
    assert "2 of 2 images" in capsys.readouterr().out


def test_workers_and_a_scheduler_are_not_given_together(capsys):
    places = ["--workers", "2", "--scheduler", "tcp://127.0.0.1:8786"]
    assert "not both" in fails(capsys, "group", "a.png", "--out", "trees", *places)


def test_an_out_that_is_a_file_is_one_line(photos, capsys):
    (photos.parent / "taken").write_text("")
    assert cli.main(["group", str(photos / "pixel.png"), "--out", str(photos.parent / "taken")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("hgrl: ") and "cannot be written" in message


def test_no_image_at_all_is_one_line(tmp_path, capsys):
    assert "no such file or folder" in fails(
        capsys, "group", str(tmp_path / "nowhere"), "--out", str(tmp_path / "trees")
    )


def test_as_a_program_it_exits_with_the_status(tmp_path):
    command = [sys.executable, "-m", "hgrl", "group", "nowhere.png", "--out", "trees"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "hgrl: nowhere.png: no such file or folder; give image files, or folders of them\n"


@pytest.fixture
def contours(tmp_path):
    """BSDS500's layout with two drawn scenes a split."""
    sizes = {
        "size": 48,
        "unlabelled": 0,
        "train": 0,
        "tune": 0,
        "val": 0,
        "videos": 0,
        "frames": 1,
        "contours": 2,
    }
    make_scenes(tmp_path / "scenes", ScenesSettings(**sizes))
    return tmp_path / "scenes/BSDS500"


def test_an_edge_network_is_trained_to_a_file_and_photographs_are_grouped_by_it(contours, photos, capsys):
    out = photos.parent / "hed.pt"
    small = ["--width", "2", "--iterations", "2", "--batch", "2", "--crop-size", "32", "--device", "cpu"]
    assert cli.main(["train-hed", "--data", str(contours), "--out", str(out), *small]) == 0
    said = capsys.readouterr().out
    assert (
        "trunk from scratch, 4 images, 2 steps" in said
        and f"next: python -m hgrl group PHOTOS --out TREES --hed {out}" in said
    )
    assert (
        cli.main(
            ["group", str(photos / "good.png"), "--out", str(photos.parent / "trees"), "--hed", str(out)]
        )
        == 0
    )
    assert [RegionTree.load(path).labels.shape for path in (photos.parent / "trees").rglob("good.npz")] == [
        (48, 64)
    ]
    capsys.readouterr()
    assert "taken" in fails(
        capsys,
        "train-hed",
        "--data",
        str(contours),
        "--out",
        str(photos.parent / "taken"),
        "--imagenet",
        "taken",
        *small,
    )


@pytest.mark.parametrize(("arguments", "told"), [
    ("train-hed", "give a profile, or --out FILE"),
    ("train-hed smoke --width 3", "--width goes with --out FILE"),
    ("train-hed --out x.pt --data nowhere", "nowhere"),
    ("train-hed --out x.pt --data nowhere --lr 0", "train-hed: setting 'lr'"),
    ("group x.png --out trees --hed nowhere.pt", "nowhere.pt: no such file"),
])  # fmt: skip
def test_wrong_use_of_the_edge_network_is_one_line(photos, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(photos)
    (photos / "x.png").write_bytes((photos / "good.png").read_bytes())
    assert told in fails(capsys, *arguments.split())
