"""Unpacks a tar or zip archive that is not trusted: nothing lands outside its folder, and all of it appears
at once or not at all.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json
from hgrl.core.progress import bar

MARKER = ".unpacked.json"  # inside the unpacked folder: which archive it came from, complete
# the standard library's own checks, which Python 3.11.3 has not yet
FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
Tick = Callable[[int], None]  # told the bytes of the archive that are read


def unpack(archive: Path, folder: Path, top: str) -> Path:
    """The archive's folder `top` at `folder/top`; where that is complete already, nothing is done.

    Refused, before anything is in place: absolute names, names with `..`, links that lead out of the archive,
    in a zip all links, devices and pipes, passwords, and an archive without `top`. Entries beside `top` are
    dropped. Raises InputError naming archive and entry.
    """
    place = folder / top
    if is_unpacked(place, archive.name):
        return place
    if place.exists():
        raise InputError(
            f"{place}: there already, but not unpacked from {archive.name}; move it away, or give another --data"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f".{top}.unpacking-*"):  # of an interrupted run
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(prefix=f".{top}.unpacking-", dir=folder) as temporary:
            count = _unpack_all(archive, Path(temporary))
            if not (Path(temporary) / top).is_dir():
                raise InputError(
                    f"{archive}: no folder {top} in it; it is not the archive it claims to be, delete it"
                )
            write_json(Path(temporary) / top / MARKER, {"archive": archive.name, "files": count})
            os.rename(Path(temporary) / top, place)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); free some disk space or check its permissions"
        ) from error
    return place


def is_unpacked(place: Path, archive: str) -> bool:
    """Whether `place` came, complete, from the archive of that file name."""
    marker = place / MARKER
    return marker.is_file() and read_json(marker).get("archive") == archive


def _unpack_all(archive: Path, folder: Path) -> int:
    """All entries below `folder`; the number of files."""
    with bar(
        desc=f"unpack {archive.name}", total=archive.stat().st_size, unit="B", unit_scale=True
    ) as progress:
        try:
            if zipfile.is_zipfile(archive):
                return _unzip(archive, folder, progress.update)
            if tarfile.is_tarfile(archive):
                return _untar(archive, folder, lambda position: progress.update(position - progress.n))
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _damaged(archive, " ".join(str(error).split())) from error
    raise _damaged(archive, "neither a tar nor a zip archive")


def _damaged(archive: Path, why: str) -> InputError:
    return InputError(f"{archive}: {why}; delete it and fetch it again")


def _untar(archive: Path, folder: Path, reached: Tick) -> int:
    count = 0
    with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
        for member in tar:
            _check_name(archive, member.name)
            if member.issym() or member.islnk():
                _check_link(archive, member)
            elif not (member.isfile() or member.isdir()):
                raise _unsafe(archive, member.name, "is a device or a pipe")
            _check_place(archive, folder, member)
            tar.extract(member, folder, set_attrs=False, **FILTER)
            count += member.isfile()
            reached(raw.tell())
        _check_end(tar)
    return count


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a cut between two entries for the end; the real end is a block of zeros, and a compressed
    stream that closes well.
    """
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut off")
    while tar.fileobj.read(1 << 20):
        pass


def _unzip(archive: Path, folder: Path, tick: Tick) -> int:
    count = 0
    with zipfile.ZipFile(archive) as zipped:
        for entry in zipped.infolist():
            _check_name(archive, entry.filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, entry.filename, "is a link, a device or a pipe")
            if entry.flag_bits & 1:
                raise _unsafe(archive, entry.filename, "wants a password")
            count += _write_entry(zipped, entry, folder)
            tick(entry.compress_size)
    return count


def _write_entry(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> int:
    path = folder / entry.filename
    if entry.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    # x: an entry that is there twice is an error
    with zipped.open(entry) as source, open(path, "xb") as file:
        shutil.copyfileobj(source, file)  # zipfile checks the CRC at the end
    return 1


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _unsafe(archive, name, "leads out of the archive")


def _check_link(archive: Path, member: tarfile.TarInfo) -> None:
    """Symbolic links are relative to where they lie, hard links to the archive's top."""
    base = posixpath.dirname(member.name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(base, member.linkname))
    if posixpath.isabs(target) or target.split("/")[0] == "..":
        raise _unsafe(archive, member.name, f"is a link out of the archive, to {member.linkname}")


def _check_place(archive: Path, folder: Path, member: tarfile.TarInfo) -> None:
    """Where an entry really lands, and where a link really leads: links of earlier entries are followed,
    which names alone do not show.
    """
    home = os.path.realpath(folder)
    places = [os.path.join(home, member.name)]
    if member.issym() or member.islnk():
        places.append(os.path.join(os.path.dirname(places[0]) if member.issym() else home, member.linkname))
    for place in places:
        if os.path.commonpath([home, os.path.realpath(place)]) != home:
            raise _unsafe(archive, member.name, "leads out of the archive by way of a link")


def _unsafe(archive: Path, name: str, why: str) -> InputError:
    return InputError(f"{archive}: entry {name!r} {why}; nothing was unpacked, delete the archive")
