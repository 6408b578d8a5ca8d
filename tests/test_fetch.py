"""`fetch` and `check-data` end to end: archives of the data sets in miniature, from a local server to what
the loaders open.
"""

import contextlib
import dataclasses
import hashlib
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from miniature import (
    write_coco,
    write_davis,
    write_imagenet,
    write_imagenette,
    write_lists,
    write_msrc,
    write_sbd,
    write_voc,
)

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.data.fetching import fetch as module
from hgrl.data.fetching.archives import DATA_SETS, Split
from hgrl.data.fetching.fetch import fetch_data_sets
from hgrl.data.fetching.survey import count
from hgrl.data.sets import listing
from hgrl.data.sources import open_samples, open_videos

COUNTS = {
    ("voc", "train"): 2, ("voc", "val"): 1, ("voc", "train_aug"): 4, ("sbd", "train"): 2, ("sbd", "val"): 2,
    ("coco", "train2014"): 3, ("davis", "train"): 1, ("davis", "val"): 2,
    ("imagenet", "train"): 6, ("imagenet", "val"): 3,
}  # fmt: skip
OTHER_COUNTS = {"msrc": {"train": 2, "tune": 1, "val": 1}, "imagenette": {"train": 9, "val": 3}}
REPOSITORY = Path(__file__).resolve().parents[1]
FETCHED = ["voc2012", "sbd", "coco2014", "davis2017", "msrc", "imagenette"]
MSRC_LISTS = {"msrc_train": ["1_1_s", "5_7_s"], "msrc_tune": ["2_1_s"], "msrc_val": ["8_30_s"]}


def write_all(root):
    masks = write_voc(root, ["2007_a", "2009_b"], ["2007_c"], ["2008_e", "2011_f"])
    write_sbd(root, masks, ["2008_e", "2007_c"], ["2009_b", "2011_f"])
    write_coco(root)
    write_davis(root, ["bear"], ["camel", "dogs"])
    write_imagenet(root)
    write_msrc(root, [stem for stems in MSRC_LISTS.values() for stem in stems])
    write_imagenette(root)


def pack(source, archive, served):
    """An archive of the name and kind of the real one, in the server's folder."""
    path = served / archive.file
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted((source / archive.top).rglob("*")):
                packed.write(file, file.relative_to(source))
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as packed:
            packed.add(source / archive.top, archive.top)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder of archives, their server's address, table of archives that points there)."""
    drawn, served = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("served")
    write_all(drawn)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    table = {}
    for name in [*FETCHED, "imagenet"]:
        known = DATA_SETS[name]
        archive = known.archive
        if archive is not None:
            path = pack(drawn / known.folder, archive, served)
            addresses = (f"http://127.0.0.1:{server.server_port}/{archive.file}",)
            digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            size = {"size": path.stat().st_size, "unpacked": 10**6}
            digest = digest if archive.checksum else None
            archive = dataclasses.replace(archive, addresses=addresses, checksum=digest, **size)
        own, counts = OTHER_COUNTS.get(name, {}), [COUNTS.get((s.kind, s.name), 1) for s in known.splits]
        both = zip(known.splits, counts, strict=True)
        splits = tuple(dataclasses.replace(s, count=own.get(s.name, count)) for s, count in both)
        table[name] = dataclasses.replace(known, archive=archive, splits=splits)
    yield served, drawn, table
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path.strip("/"))
        with contextlib.suppress(ConnectionError):
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def root(world, tmp_path, monkeypatch):
    """An empty data root, and the table of archives in miniature."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(paths, "HOME", tmp_path / "home")
    monkeypatch.delenv("HGRL_DATA", raising=False)
    monkeypatch.setattr(listing, "SHIPPED", write_lists(tmp_path / "lists", **MSRC_LISTS))
    for name in list(DATA_SETS):
        monkeypatch.delitem(DATA_SETS, name)
    for name, known in world[2].items():
        monkeypatch.setitem(DATA_SETS, name, known)
    Quiet.asked.clear()
    return tmp_path / "data"


def test_all_sets_are_fetched_and_opened(root, capsys):
    assert fetch_data_sets(FETCHED, root)
    said = capsys.readouterr().out
    assert "voc2012: fetched, 2 of 2 train images, 1 of 1 val images" in said
    assert "sbd: fetched, 2 of 2 train masks" in said and "davis2017: fetched, 1 of 1 train videos" in said
    assert open_samples(Source(kind="voc", folder="VOC2012", split="train_aug"), root).names == tuple(
        f"VOC2012/{stem}" for stem in ("2007_a", "2008_e", "2009_b", "2011_f")
    )
    assert len(open_samples(Source(kind="coco", folder="coco", split="train2014"), root)) == 3
    videos = open_videos(Source(kind="davis", folder="DAVIS", split="val"), root)
    assert [len(video) for video in videos] == [4, 4]
    assert "msrc: fetched, 2 of 2 train images, 1 of 1 tune images" in said
    assert (
        said.count("; not verified: no checksum of it is published") == 1 and "_v2.zip, 0.00 GB; not" in said
    )
    msrc = open_samples(Source(kind="voc", folder="MSRC", split="train"), root)
    assert msrc.names == ("MSRC/1_1_s", "MSRC/5_7_s") and msrc.mask(1).shape == (64, 96)
    assert len(open_samples(Source(kind="imagenet", folder="Imagenette", split="train"), root)) == 9
    assert downloads(root) == []  # archives go when they are unpacked


def downloads(root):
    """What lies there beside the lock."""
    return sorted(path.name for path in (root / "downloads").iterdir() if path.name != ".lock")


def test_a_second_call_fetches_nothing(root, capsys):
    fetch_data_sets(FETCHED, root)
    asked = len(Quiet.asked)
    capsys.readouterr()
    assert fetch_data_sets(FETCHED, root)
    assert len(Quiet.asked) == asked == 6
    assert capsys.readouterr().out.count("already there") == 6


def test_what_is_complete_by_hand_is_not_fetched(world, root, capsys):
    shutil.copytree(world[1] / "DAVIS/DAVIS", root / "DAVIS")  # without the archive's own folder
    assert fetch_data_sets(["davis2017"], root)
    assert Quiet.asked == [] and "already there" in capsys.readouterr().out


def test_an_incomplete_copy_is_not_overwritten_nor_shadowed(world, root):
    shutil.copytree(world[1] / "VOC2012/VOCdevkit/VOC2012", root / "VOC2012")
    (root / "VOC2012/ImageSets/Segmentation/train.txt").write_text("2007_a\n")
    with pytest.raises(
        InputError, match=r"VOC2012: an incomplete copy \(1 of 2 train images\) is there; move it away"
    ):
        fetch_data_sets(["voc2012"], root)
    assert Quiet.asked == []


@pytest.mark.parametrize("lost", ["Annotations/480p/camel/00001.png", "JPEGImages/480p/dogs/00003.jpg"])
def test_files_lost_after_unpacking_are_told_with_a_remedy(root, capsys, lost):
    """A frame that is gone leaves a video shorter: no loader would miss it."""
    fetch_data_sets(["davis2017"], root)
    (root / "DAVIS/DAVIS" / lost).unlink()
    with pytest.raises(InputError, match=r"DAVIS/DAVIS: 1 of its files are gone; move it away, .* run again"):
        fetch_data_sets(["davis2017"], root)
    shutil.move(root / "DAVIS", root / "away")
    assert fetch_data_sets(["davis2017"], root)


def test_a_folder_in_the_way_is_told_before_anything_is_fetched(root):
    (root / "DAVIS/DAVIS").mkdir(parents=True)
    with pytest.raises(InputError, match=r"DAVIS/DAVIS: there, but not unpacked from DAVIS-2017.*; move it"):
        fetch_data_sets(["davis2017"], root)
    assert Quiet.asked == []


def test_a_set_whose_lists_were_changed_is_told_with_a_remedy(root, capsys):
    fetch_data_sets(["davis2017"], root)
    (root / "DAVIS/DAVIS/ImageSets/2017/val.txt").write_text("camel\n")
    assert not fetch_data_sets(["davis2017"], root)
    said = capsys.readouterr().out
    assert "davis2017: not complete" in said and "next: move DAVIS away, then python -m hgrl fetch" in said


@pytest.mark.parametrize("step", ["download", "unpack"])
def test_a_second_fetch_is_refused_while_the_first_downloads_or_unpacks(root, monkeypatch, step):
    refusals, real = [], getattr(module, step)

    def interrupted(*arguments):
        with pytest.raises(InputError) as caught:
            fetch_data_sets(["davis2017"], root)
        refusals.append(str(caught.value))
        return real(*arguments)

    monkeypatch.setattr(module, step, interrupted)
    assert fetch_data_sets(["davis2017"], root)
    (refusal,) = refusals
    assert refusal == f"{root}: another fetch into this folder is running; wait for it"


def test_what_another_fetch_has_just_brought_is_not_fetched_again(root, monkeypatch, capsys):
    """It ended between this one's look at the data root and its lock."""
    real = module._check_space

    def meanwhile(*arguments):
        monkeypatch.setattr(module, "_check_space", real)
        fetch_data_sets(["davis2017"], root)
        Quiet.asked.clear()

    monkeypatch.setattr(module, "_check_space", meanwhile)
    assert fetch_data_sets(["davis2017"], root) and Quiet.asked == []


def test_a_data_root_that_cannot_be_written(root):
    root.parent.mkdir(exist_ok=True)
    root.write_text("a file")
    with pytest.raises(InputError, match=r"\.lock: cannot be written"):
        fetch_data_sets(["davis2017"], root)


def test_archives_are_kept_when_asked_for(root):
    fetch_data_sets(["davis2017"], root, keep_archives=True)
    assert downloads(root) == ["DAVIS-2017-trainval-480p.zip"]


def test_a_full_disk_is_told_before_anything_is_fetched(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 5, 5))
    with pytest.raises(InputError, match=r"data: 0\.0 GB are needed and 0\.0 GB are free; free some space"):
        fetch_data_sets(["davis2017"], root)
    assert Quiet.asked == [] and not root.exists()


def test_imagenet_is_explained_and_counted(world, root, capsys):
    assert not fetch_data_sets(["imagenet"], root)
    said = capsys.readouterr().out
    assert "image-net.org" in said and "imagenet: not complete, 0 of 6 train images" in said
    shutil.copytree(world[1] / "ImageNet", root / "ImageNet")
    assert fetch_data_sets(["imagenet"], root)
    said = capsys.readouterr().out
    assert "imagenet: already there, 6 of 6 train images" in said and "image-net.org" not in said


def test_the_command(root, capsys):
    assert cli.main(["fetch", "davis2017", "--data", str(root)]) == 0
    assert "davis2017: fetched" in capsys.readouterr().out
    assert cli.main(["fetch", "imagenet", "--data", str(root)]) == 1
    with pytest.raises(SystemExit):
        cli.main(["fetch", "mnist"])
    assert "voc2012" in capsys.readouterr().err


def test_the_commands_default_root_is_hgrl_data(root, capsys, monkeypatch):
    monkeypatch.setenv("HGRL_DATA", str(root))
    cli.main(["fetch", "davis2017"])
    assert (root / "DAVIS/DAVIS").is_dir()


def test_a_server_that_has_lost_the_file_is_one_line(world, root, capsys):
    path = world[0] / "DAVIS-2017-trainval-480p.zip"
    path.rename(path.with_suffix(".gone"))
    try:
        assert cli.main(["fetch", "davis2017", "--data", str(root)]) == 1
    finally:
        path.with_suffix(".gone").rename(path)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hgrl: ")]
    assert "404" in line and not (root / "DAVIS").exists()


@pytest.fixture
def profiles(root, monkeypatch):
    """A home with one profile that reads the real sets, and one that draws its own."""
    (paths.HOME / "profiles").mkdir(parents=True)
    monkeypatch.setattr(paths, "PARAMS", paths.HOME / "params.yaml")
    paths.PARAMS.write_text("runs: {}\n")
    (paths.HOME / "profiles/real.yaml").write_text("data: {}\n")
    (paths.HOME / "profiles/drawn.yaml").write_text("data: {scenes: {}}\n")
    return root


def checked(capsys, *arguments):
    """(exit status, {"set split": status}) of check-data."""
    capsys.readouterr()
    status = cli.main(["check-data", *arguments])

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    return status, {tuple(row[:3]): row[3] for row in rows if row and row[0] in DATA_SETS}


def test_check_data_before_and_after(profiles, capsys):
    arguments = ("--data", str(profiles), "--profile", "real")
    status, found = checked(capsys, *arguments)
    assert status == 1 and set(found.values()) == {"missing"}
    fetch_data_sets(FETCHED, profiles)
    status, found = checked(capsys, *arguments)
    assert status == 0  # ImageNet is missing, and no source of the profile
    assert {key[0] for key, value in found.items() if value == "missing"} == {"imagenet"}
    assert found["sbd", "train_aug", "images"] == "complete"


def test_check_data_with_one_set_missing_or_damaged(profiles, capsys):
    arguments = ("--data", str(profiles), "--profile", "real")
    fetch_data_sets(FETCHED, profiles)
    shutil.move(profiles / "SBD", profiles / "away")
    status, found = checked(capsys, *arguments)
    assert (
        status == 1
        and found["sbd", "train_aug", "images"] == "missing"
        and found["voc2012", "val", "images"] == "complete"
    )
    shutil.move(profiles / "away", profiles / "SBD")
    next((profiles / "VOC2012").rglob("JPEGImages/2007_c.jpg")).unlink()  # of val
    status, found = checked(capsys, *arguments, "--allow-partial")
    assert (
        status == 1
        and found["voc2012", "val", "images"] == "incomplete"
        and found["sbd", "train_aug", "images"] == "complete"
    )


def test_check_data_of_a_smaller_set(profiles, capsys):
    arguments = ("--data", str(profiles), "--profile", "real")
    fetch_data_sets(FETCHED, profiles)
    next((profiles / "DAVIS").rglob("val.txt")).write_text("camel\n")
    assert checked(capsys, *arguments)[0] == 1
    assert checked(capsys, *arguments, "--allow-partial")[0] == 0


def test_check_data_of_a_profile_that_draws_its_own(profiles, capsys):
    assert checked(capsys, "--data", str(profiles), "--profile", "drawn")[0] == 0


def test_too_many_images_are_not_complete(root):
    fetch_data_sets(["davis2017"], root)
    assert count(root, "davis2017", Split("davis", "DAVIS", "val", 1, "videos")).status == "differs"
