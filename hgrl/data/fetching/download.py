"""One file over HTTP: resumed where it broke off, checked before it takes its place. The standard library
alone.

While it comes in, a file is `<name>.part`, and beside it `<name>.part.json` says which version of the file on
the server it is.
Only a file of the right size and checksum is renamed to `<name>`.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hgrl.core.errors import InputError
from hgrl.core.files import read_json, write_json
from hgrl.core.progress import bar

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row without a new byte
WAIT = 1.0  # seconds before the second try; doubled each time
WORTH_WAITING = (408, 425, 429, 500, 502, 503, 504)  # what a server says when it may be better soon


class _TryAgain(Exception):
    """The connection broke, or the server is busy."""


class _OtherAddress(Exception):
    """This address will not give the file."""


@dataclass
class _Transfer:
    part: Path
    file: BinaryIO  # open for reading and writing, at its end
    size: int | None
    has_checksum: bool
    progress: Any
    resumed: bool = False  # whether bytes of an earlier connection are in it
    complete: bool = False

    @property
    def state(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    @property
    def have(self) -> int:
        return self.file.tell()

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.state.unlink(missing_ok=True)
        self.resumed = False
        self.progress.reset(self.size)


def download(
    addresses: Sequence[str],
    target: Path,
    size: int | None,
    checksum: str | None,
    tries: int = TRIES,
    wait: float = WAIT,
) -> Path:
    """The file at the first of `addresses` that gives it, at `target`; a file that is there already, by hand
    perhaps, is only checked.

    size in bytes and checksum ("sha256:<hex>" or "md5:<hex>") are what the file must have; None is not
    checked, and without a checksum the SHA-256 that came is written to `<target>.sha256`, for you to compare
    with others'.
    A broken connection is continued (Range, If-Range) when the server still has the same version of the file,
    else begun anew, with growing waits. Raises InputError when no address gives the right file; what is half
    there stays, except wrong bytes.
    """
    target = Path(target)
    if target.exists():
        return _checked(target, size, checksum)
    reasons = []
    with _exclusive(target.with_name(target.name + ".part")) as (part, file):
        if target.exists():  # another process has just finished it
            return _checked(target, size, checksum)
        for address in addresses:
            with bar(
                desc=target.name, total=size, initial=file.tell(), unit="B", unit_scale=True
            ) as progress:
                transfer = _Transfer(part, file, size, checksum is not None, progress)
                try:
                    _from(address, transfer, checksum, tries, wait)
                    break
                except (_OtherAddress, _TryAgain) as reason:
                    reasons.append(f"{address}: {reason}")
        else:
            tried = "; ".join(reasons)
            raise InputError(
                f"{target}: not fetched ({tried}); run the same command again later, or put the file there by hand"
            )
        if checksum is None:
            digest = file_digest(part, "sha256")
            target.with_name(target.name + ".sha256").write_text(f"{digest}  {target.name}\n")
        os.fsync(file.fileno())
        part.replace(target)
        transfer.state.unlink(missing_ok=True)
    return target


def _checked(target: Path, size: int | None, checksum: str | None) -> Path:
    algorithm, _, expected = (checksum or "").partition(":")
    found = target.stat().st_size
    if size is not None and found != size:
        raise InputError(f"{target}: {found} bytes, not {size}; delete it and run again")
    if checksum is not None and file_digest(target, algorithm) != expected:
        raise InputError(f"{target}: wrong bytes, by their {algorithm}; delete it and run again")
    return target


def file_digest(path: Path, algorithm: str) -> str:
    """The hex digest of a file, with a bar."""
    digest = hashlib.new(algorithm)
    with (
        open(path, "rb") as file,
        bar(
            desc=f"{algorithm} of {path.name}", total=path.stat().st_size, unit="B", unit_scale=True, delay=5
        ) as progress,
    ):
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()


@contextmanager
def _exclusive(part: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The `.part` file, at its end, for this process alone; an empty one goes again."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{part}: another process is fetching this file; wait for it") from None
            file.seek(0, 2)
            try:
                yield part, file
            finally:
                if part.exists() and part.stat().st_size == 0:
                    part.unlink()
    except OSError as error:
        raise InputError(
            f"{part}: cannot be written ({error.strerror or error}); free some disk space or check the folder's permissions"
        ) from error


def _from(address: str, transfer: _Transfer, checksum: str | None, tries: int, wait: float) -> None:
    """The whole, checked file from one address; wrong bytes after a resumed transfer are fetched once more
    from the start.
    """
    transfer.resumed = transfer.have > 0
    _receive(address, transfer, tries, wait)
    if checksum is None:
        return
    algorithm, _, expected = checksum.partition(":")
    transfer.file.flush()
    found = file_digest(transfer.part, algorithm)
    if found != expected and transfer.resumed:
        transfer.restart()
        _receive(address, transfer, tries, wait)
        transfer.file.flush()
        found = file_digest(transfer.part, algorithm)
    if found != expected:
        transfer.restart()
        raise _OtherAddress(f"wrong bytes: {algorithm} is {found}, not {expected}")


def _receive(address: str, transfer: _Transfer, tries: int, wait: float) -> None:
    failures, best = 0, transfer.have
    transfer.complete = False
    while not transfer.complete:
        try:
            _connect(address, transfer)
        except _TryAgain as reason:
            transfer.resumed = transfer.have > 0
            transfer.progress.set_postfix_str(str(reason)[:60])
            failures = 0 if transfer.have > best else failures + 1
            best = max(best, transfer.have)
            if failures >= tries:
                raise _TryAgain(f"{reason}, {failures} times without a new byte") from None
            time.sleep(wait * 2 ** min(failures, 6))


def _connect(address: str, transfer: _Transfer) -> None:
    """One connection; ends well when the file is whole, in _TryAgain when it broke off."""
    request = _request(address, transfer)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _read(address, response, transfer)
    except urllib.error.HTTPError as error:
        error.close()
        _refused(error, transfer)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _broken(error) from None


def _broken(error: Exception) -> _TryAgain:
    return _TryAgain(str(getattr(error, "reason", "") or error) or type(error).__name__)


def _request(address: str, transfer: _Transfer) -> urllib.request.Request:
    """Asks for what is missing, where it can be told that it will be of the same version; else for the whole."""
    headers = {"User-Agent": "hgrl", "Accept-Encoding": "identity"}
    if transfer.have:
        state = read_json(transfer.state) if transfer.state.exists() else {}
        version = state.get("version") if state.get("address") == address else None
        if version:
            headers["If-Range"] = version
        if version or transfer.has_checksum:
            headers["Range"] = f"bytes={transfer.have}-"
        else:
            transfer.restart()
    return urllib.request.Request(address, headers=headers)


def _refused(error: urllib.error.HTTPError, transfer: _Transfer) -> None:
    if error.code == 416 and transfer.have:
        whole = error.headers.get("Content-Range", "").rpartition("/")[2]  # "bytes */1234"
        if str(transfer.have) == whole or transfer.have == transfer.size:
            transfer.complete = True  # nothing is missing
            return
        transfer.restart()
        raise _TryAgain("the half file here is no part of the server's")
    said = f"the server says {error.code} {error.reason}"
    raise (_TryAgain if error.code in WORTH_WAITING else _OtherAddress)(said)


def _read(address: str, response: Any, transfer: _Transfer) -> None:
    total = _whole_size(response, transfer)
    if transfer.size is not None and total is not None and total != transfer.size:
        raise _OtherAddress(f"the server offers {total} bytes, not {transfer.size}: another file")
    transfer.progress.total = total
    version = _version(response)
    write_json(transfer.state, {"address": address, "version": version})
    while chunk := _chunk(response):
        transfer.file.write(chunk)
        transfer.progress.update(len(chunk))
        if total is not None and transfer.have > total:
            transfer.restart()
            raise _OtherAddress("the server sends more than it announced")
    transfer.file.flush()
    if total is not None and transfer.have < total:
        raise _TryAgain(f"the connection broke off at {transfer.have} of {total} bytes")
    if transfer.size is not None and transfer.have != transfer.size:  # a server that announces no size
        transfer.restart()
        raise _TryAgain("the connection broke off")
    transfer.complete = True


def _chunk(response: Any) -> bytes:
    try:
        return response.read1(CHUNK)  # what is there, so that a hanging connection loses none of it
    except (OSError, http.client.HTTPException) as error:  # of the connection, not of the disk
        raise _broken(error) from None


def _whole_size(response: Any, transfer: _Transfer) -> int | None:
    """The whole file's bytes, as announced; goes back to the start where the server sends the whole."""
    length = response.headers.get("Content-Length")
    if response.status == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        stretch, _, total = rest.partition("/")
        if unit != "bytes" or stretch.partition("-")[0] != str(transfer.have) or not total.isdigit():
            transfer.restart()
            raise _TryAgain("the server sends another part than was asked for")
        return int(total)
    if transfer.have:  # 200: the server knows no ranges, or the file has changed
        transfer.restart()
    return int(length) if length is not None else None


def _version(response: Any) -> str | None:
    """What If-Range compares: a strong ETag, or the date of the last change."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
