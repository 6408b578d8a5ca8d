"""Unpacking: nothing lands outside, and a folder is there whole or not at all."""

import errno
import io
import json
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from hgrl.core.errors import InputError
from hgrl.data.fetching.unpack import MARKER, files_lost, unpack

FILES = {"top/a.txt": b"a", "top/deep/er/b.txt": b"bb" * 1000, "other/c.txt": b"c"}


def tar(path, files=FILES, members=(), mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def zipped(path, files=FILES, entries=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def member(name, kind, link=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def zip_entry(name, mode):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


def refused(archive, tmp_path, top="top"):
    """The one line of the error; nothing is left anywhere but the archive."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    before = sorted(home.rglob("*"))
    outside = sorted(path for path in tmp_path.iterdir() if path != home)
    with pytest.raises(InputError) as caught:
        unpack(archive, home, top)
    assert sorted(home.rglob("*")) == before
    assert sorted(path for path in tmp_path.iterdir() if path != home) == outside
    message = str(caught.value)
    assert "\n" not in message and archive.name in message
    return message


@pytest.mark.parametrize("make", [tar, zipped, lambda path: tar(path, mode="w")])
def test_the_top_folder_alone_with_a_marker(tmp_path, make):
    place = unpack(make(tmp_path / "archive"), tmp_path / "home", "top")
    assert place == tmp_path / "home/top" and list((tmp_path / "home").iterdir()) == [place]
    assert (place / "a.txt").read_bytes() == b"a" and (place / "deep/er/b.txt").read_bytes() == b"bb" * 1000
    assert json.loads((place / MARKER).read_text()) == {"archive": "archive", "files": 2}


def test_files_that_are_lost_after_unpacking_are_counted(tmp_path):
    place = unpack(tar(tmp_path / "archive"), tmp_path / "home", "top")
    assert files_lost(place, "archive") == 0 and files_lost(place, "another") is None
    (place / "a.txt").unlink()
    assert files_lost(place, "archive") == 1


BAD_MARKERS = [
    None,
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"archive": "archive"}',
    b'{"archive": "archive", "files": "x"}',
]


@pytest.mark.parametrize("marker", BAD_MARKERS)
def test_a_missing_or_damaged_marker_vouches_for_nothing(tmp_path, marker):
    place = unpack(tar(tmp_path / "archive"), tmp_path / "home", "top")
    (place / MARKER).unlink() if marker is None else (place / MARKER).write_bytes(marker)
    assert files_lost(place, "archive") is None


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "home/top").mkdir(parents=True)
    (tmp_path / "home/top/mine.txt").write_text("mine")
    assert "move it away" in refused(tar(tmp_path / "archive"), tmp_path)
    assert (tmp_path / "home/top/mine.txt").read_text() == "mine"


def test_what_an_interrupted_run_left_goes(tmp_path):
    (tmp_path / "home/.top.unpacking-x/top").mkdir(parents=True)
    unpack(tar(tmp_path / "archive"), tmp_path / "home", "top")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["top"]


BAD_NAMES = [
    "../evil.txt",
    "top/../../evil.txt",
    "/tmp/hgrl-evil.txt",
    "top/sub/../../../evil.txt",
    "C:\\evil.txt",
    "..\\evil.txt",
    "\\evil.txt",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_name_that_leads_out_is_refused(tmp_path, make, name):
    assert "leads out of the archive" in refused(
        make(tmp_path / "archive", {**FILES, name: b"evil"}), tmp_path
    )


@pytest.mark.parametrize(("kind", "link"), [
    (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../../evil"),
    (tarfile.SYMTYPE, "deep/../../../evil"), (tarfile.LNKTYPE, "../evil"), (tarfile.LNKTYPE, "/etc/passwd"),
])  # fmt: skip
def test_a_link_that_leads_out_is_refused(tmp_path, kind, link):
    assert "link" in refused(tar(tmp_path / "archive", members=[member("top/link", kind, link)]), tmp_path)


def test_a_file_written_through_a_link_is_refused(tmp_path):
    """A chain of links, each of which looks harmless by name."""
    links = [
        member("top/d", tarfile.DIRTYPE),
        member("top/d/up", tarfile.SYMTYPE, ".."),
        member("top/out", tarfile.SYMTYPE, "d/up/../../.."),
    ]
    refused(tar(tmp_path / "archive", members=links), tmp_path)


def test_a_file_behind_a_link_to_a_folder_is_refused(tmp_path):
    """The link comes first, then a file below its name."""
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(member("top", tarfile.DIRTYPE))
        archive.addfile(member("top/sub", tarfile.DIRTYPE))
        archive.addfile(member("top/out", tarfile.SYMTYPE, "sub"))
        file = tarfile.TarInfo("top/out/evil.txt")
        file.size = 4
        archive.addfile(file, io.BytesIO(b"evil"))
    assert "is a link to sub" in refused(tmp_path / "archive", tmp_path)


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "a.txt"), (tarfile.LNKTYPE, "top/a.txt")])
def test_a_link_inside_becomes_a_copy(tmp_path, kind, target):
    archive = tar(tmp_path / "archive", members=[member("top/link", kind, target)])
    place = unpack(archive, tmp_path / "home", "top")
    assert (place / "link").read_bytes() == b"a" and not (place / "link").is_symlink()


def test_a_link_to_itself_is_refused(tmp_path):
    link = member("top/link", tarfile.SYMTYPE, "link")
    assert "is a link to link" in refused(tar(tmp_path / "archive", members=[link]), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(tmp_path, kind):
    assert "'top/device' is a device or a pipe" in refused(
        tar(tmp_path / "archive", members=[member("top/device", kind)]), tmp_path
    )


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_a_link_or_device_in_a_zip_is_refused(tmp_path, kind):
    archive = zipped(tmp_path / "archive", entries=[(zip_entry("top/link", kind | 0o777), b"a.txt")])
    assert "'top/link' is a link, a device or a pipe" in refused(archive, tmp_path)


def test_a_password_is_refused(tmp_path):
    archive = zipped(tmp_path / "archive", {"top/a.txt": b"a"})
    content = bytearray(archive.read_bytes())
    for start, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + offset] |= 1
    archive.write_bytes(content)
    assert "wants a password" in refused(archive, tmp_path)


def test_set_uid_bits_do_not_come_along(tmp_path):
    entry = member("top/program", tarfile.REGTYPE)
    entry.mode = 0o6777
    place = unpack(tar(tmp_path / "archive", members=[entry]), tmp_path / "home", "top")
    assert stat.S_IMODE((place / "program").stat().st_mode) & 0o7022 == 0


@pytest.mark.parametrize(
    "make",
    [
        tar,
        zipped,
        lambda path, files: tar(path, files, mode="w"),
        lambda path, files: tar(path, files, mode="w:bz2"),
    ],
)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.6])
def test_a_truncated_archive_is_refused(tmp_path, make, share):
    archive = make(tmp_path / "archive", {f"top/{k}.txt": bytes([k]) * 700 for k in range(9)})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    refused(archive, tmp_path)


def test_a_tar_cut_between_two_entries_is_refused(tmp_path):
    archive = tar(tmp_path / "archive", {"top/a.txt": b"a", "top/b.txt": b"b"}, mode="w")
    archive.write_bytes(archive.read_bytes()[:1024])  # an entry: a block of header, a block of data
    assert "damaged archive (cut off); delete it and fetch it again" in refused(archive, tmp_path)


def test_a_zip_with_a_flipped_byte_is_refused(tmp_path):
    archive = zipped(tmp_path / "archive", {"top/a.txt": b"plain text " * 99})
    content = bytearray(archive.read_bytes())
    content[45] ^= 0xFF
    archive.write_bytes(content)
    assert "delete it and fetch it again" in refused(archive, tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.9, -6])
def test_a_compressed_tar_with_a_flipped_byte_is_damaged_and_not_the_disk(tmp_path, mode, place):
    noise = np.random.default_rng(0).bytes(40_000)
    archive = tar(tmp_path / "archive", {"top/a.bin": noise}, mode=mode)
    content = bytearray(archive.read_bytes())
    content[place if place < 0 else int(place * len(content))] ^= 0xFF
    archive.write_bytes(content)
    message = refused(archive, tmp_path)
    assert "delete it and fetch it again" in message and "disk" not in message


def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"home: cannot be written \(No space left on device\); free some"):
        unpack(tar(tmp_path / "archive"), tmp_path / "home", "top")


def test_a_page_in_place_of_an_archive_is_refused(tmp_path):
    (tmp_path / "archive").write_text("<html>moved</html>")
    assert "neither a tar nor a zip archive" in refused(tmp_path / "archive", tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    assert "no folder VOCdevkit in it" in refused(tar(tmp_path / "archive"), tmp_path, "VOCdevkit")


def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(tmp_path / "archive", entries=[("top/a.txt", b"again")])
    assert "an entry is there twice" in refused(archive, tmp_path)
