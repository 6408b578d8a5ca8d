"""Unpacks an untrusted tar or zip archive: nothing lands outside its folder, and no half of it is left.

No link is ever made: a link to a file inside a tar becomes a copy of that file, so nothing can be written
through one, whatever the version of Python (tarfile's own filter came with 3.11.4)."""

import errno
import json
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hgrl.core.errors import InputError
from hgrl.core.files import write_json
from hgrl.core.progress import bar
from hgrl.data.images import one_line

MARKER = ".unpacked.json"  # inside the unpacked folder: which archive it came from, and how many files
# errors of the disk; all others come from what the archive holds
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}
Entry = tuple[str, IO[bytes] | None]  # name, and content; None for a folder


def unpack(archive: Path, folder: Path, top: str) -> Path:
    """Unpacks the archive's folder `top`, and nothing beside it, to `folder/top`: all at once or not at all.

    Raises InputError, with nothing in place, for absolute names, names with `..`, links to what is not a file
    of the archive (in a zip, all links), devices, pipes, passwords, an archive without `top`, when
    `folder/top` is there already, and when the disk fails."""
    place = folder / top
    if place.exists():
        raise InputError(f"{place}: in the way of {archive.name}; move it away or change --data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f".{top}.unpacking-*"):  # of an interrupted run
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(prefix=f".{top}.unpacking-", dir=folder) as temporary:
            unpacked = Path(temporary) / top
            _unpack_to(Path(temporary), archive, top)
            write_json(unpacked / MARKER, {"archive": archive.name, "files": _count_files(unpacked)})
            os.rename(unpacked, place)
    except OSError as error:
        remedy = "free some disk space or check its permissions"
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); {remedy}") from error
    return place


def files_lost(place: Path, archive: str) -> int | None:
    """How many files of `place` are gone since it was unpacked from the archive named; None if it was not."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # no marker, or a damaged one
        marker = json.loads((place / MARKER).read_bytes())
        if marker["archive"] == archive:
            return max(0, marker["files"] - _count_files(place))
    return None


def _count_files(place: Path) -> int:
    return sum(name != MARKER for _, _, names in os.walk(place, followlinks=True) for name in names)


def _unpack_to(folder: Path, archive: Path, top: str) -> None:
    desc, total = f"unpack {archive.name}", archive.stat().st_size
    with bar(desc=desc, total=total, unit="B", unit_scale=True) as progress:
        try:
            is_zip = zipfile.is_zipfile(archive)
            if not is_zip and not tarfile.is_tarfile(archive):
                raise _damaged(archive, "neither a tar nor a zip archive")
            for name, content in (_zip_entries if is_zip else _tar_entries)(archive, progress):
                if PurePosixPath(name).parts[:1] != (top,):
                    continue
                path = folder / name
                (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
                if content is not None:
                    with content, open(path, "wb") as file:
                        shutil.copyfileobj(content, file)  # zipfile checks the CRC at the end
        except InputError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged bytes, gzip's and bz2's OSErrors
            if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                raise
            raise _damaged(archive, one_line(error)) from error
    if not (folder / top).is_dir():
        raise InputError(f"{archive}: no folder {top} in it; it is another archive, delete it")


def _damaged(archive: Path, why: str) -> InputError:
    return InputError(f"{archive}: damaged archive ({why}); delete it and fetch it again")


def _tar_entries(archive: Path, progress: Any) -> Iterator[Entry]:
    with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
        for member in tar:
            _check_name(archive, member.name)
            if not (member.isdir() or member.isfile() or member.issym() or member.islnk()):
                raise _unsafe(archive, member.name, "is a device or a pipe")
            content = None
            with suppress(KeyError, RecursionError):  # of links that lead nowhere, or round in circles
                content = tar.extractfile(member)  # looks for a link's target in the archive alone
            if content is None and not member.isdir():
                raise _unsafe(archive, member.name, f"is a link to {member.linkname}, no file of the archive")
            yield member.name, content
            progress.update(raw.tell() - progress.n)
        # tarfile takes a cut between two entries for the end: look for the zeros, and the stream's own end
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("cut off")
        while tar.fileobj.read(1 << 20):
            pass


def _zip_entries(archive: Path, progress: Any) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        if len(set(names)) < len(names):
            raise _damaged(archive, "an entry is there twice")
        for entry in zipped.infolist():
            _check_name(archive, entry.filename)
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, entry.filename, "is a link, a device or a pipe")
            if entry.flag_bits & 1:
                raise _unsafe(archive, entry.filename, "wants a password")
            yield entry.filename, None if entry.is_dir() else zipped.open(entry)
            progress.update(entry.compress_size)


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _unsafe(archive, name, "leads out of the archive")


def _unsafe(archive: Path, name: str, why: str) -> InputError:
    return InputError(f"{archive}: entry {name!r} {why}; nothing was unpacked, delete the archive")
