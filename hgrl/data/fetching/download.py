"""One file over HTTP, resumed where the connection broke; the caller keeps other processes away."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgrl.core.errors import InputError
from hgrl.core.progress import bar

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte
TRIES = 5  # in a row without a new byte
WAIT = 1.0  # seconds before the second try; doubled each time
BUSY = (408, 425, 429, 500, 502, 503, 504)  # what a server says when a later try may succeed


class _BrokeOff(Exception):
    """The connection broke, or the server is busy: worth another try."""


class _Refused(Exception):
    """This address will not give the file."""


def download(addresses: Sequence[str], target: Path, size: int | None, checksum: str | None) -> Path:
    """Downloads a file from the first of `addresses` that has it; a `target` that is there is only checked.

    The file must have `size` bytes and the checksum, "sha256:<hex>" or "md5:<hex>" (None: any). A broken
    connection is resumed after growing waits; where the checksum shows that another file was continued, it
    starts anew. Raises InputError when no address gives the file; wrong bytes go, `<target>.part` stays."""
    if target.exists():
        found = target.stat().st_size
        if size not in (None, found):
            raise InputError(f"{target}: {found} bytes, not {size}; delete it and run again")
        if (digest := _digest(target, checksum)) != checksum:
            raise InputError(f"{target}: wrong bytes, by their {digest}; delete it and run again")
        return target
    part, reasons = target.with_name(target.name + ".part"), []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for address in addresses:
            try:
                _download_from(address, part, size, checksum)
                return part.replace(target)
            except _Refused as reason:
                reasons.append(f"{address}: {reason}")
    except OSError as error:
        remedy = "free some disk space or check the folder's permissions"
        raise InputError(f"{target}: cannot be written ({error.strerror or error}); {remedy}") from error
    remedy = "run the same command again later, or put the file there by hand"
    raise InputError(f"{target}: not downloaded ({'; '.join(reasons)}); {remedy}")


def _digest(path: Path, like: str | None) -> str | None:
    """A file's "<algorithm>:<hex>", by the algorithm of the checksum `like`; None without one."""
    if like is None:
        return None
    algorithm = like.partition(":")[0]
    digest, desc, total = hashlib.new(algorithm), f"{algorithm} of {path.name}", path.stat().st_size
    progress = bar(desc=desc, total=total, unit="B", unit_scale=True, delay=5)
    with open(path, "rb") as file, progress:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress.update(len(chunk))
    return f"{algorithm}:{digest.hexdigest()}"


def _download_from(address: str, part: Path, size: int | None, checksum: str | None) -> None:
    failures, most, wrong = 0, _have(part), False
    while True:
        resumed = _have(part) > 0
        try:
            with bar(desc=part.stem, total=size, unit="B", unit_scale=True) as progress:
                _connect(address, part, size, progress)
        except _BrokeOff as reason:
            failures, most = (0, _have(part)) if _have(part) > most else (failures + 1, most)
            if failures >= TRIES:
                raise _Refused(f"{reason}, {failures} times without a new byte") from None
            time.sleep(WAIT * 2 ** min(failures, 6))
            continue
        found = _digest(part, checksum)
        if found == checksum:
            return
        part.unlink()
        if wrong or not resumed:
            raise _Refused(f"wrong bytes: {found}, not {checksum}")
        wrong = True


def _have(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _connect(address: str, part: Path, size: int | None, progress: Any) -> None:
    """One connection: returns when nothing seems to be missing."""
    have = _have(part)
    headers = {"User-Agent": "hgrl", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={have}-"} if have else {}
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing beyond what is here: the checksum will tell
            return
        kind = _BrokeOff if error.code in BUSY else _Refused
        raise kind(f"the server says {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _broken(error) from None
    with response:
        begin, total = _announced(response)
        if size is not None and total not in (None, size):
            raise _Refused(f"the server offers {total} bytes, not {size}: another file")
        if begin not in (0, have):
            part.unlink(missing_ok=True)
            raise _BrokeOff("the server sends another part than was asked for")
        progress.total = total
        progress.update(begin)
        with open(part, "ab" if begin else "wb") as file:
            while chunk := _chunk(response):
                file.write(chunk)
                progress.update(len(chunk))
    if _have(part) < (size or total or 0):
        raise _BrokeOff(f"the connection broke off at {_have(part)} of {size or total} bytes")


def _announced(response: Any) -> tuple[int, int | None]:
    """Where the response begins in the file (-1: unknown), and the whole file's bytes (None: unknown)."""
    if response.status != 206:  # the whole: the server knows no ranges
        return 0, _number(response.headers.get("Content-Length"))
    found = re.fullmatch(r"bytes ([0-9]{1,19})-[0-9]+/(.+)", response.headers.get("Content-Range", ""))
    return (int(found[1]), _number(found[2])) if found else (-1, None)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,19}", text) else None


def _chunk(response: Any) -> bytes:
    try:
        return response.read1(CHUNK)  # what has arrived, so that a hanging connection loses none of it
    except (OSError, http.client.HTTPException) as error:  # of the connection, not of the disk
        raise _broken(error) from None


def _broken(error: Exception) -> _BrokeOff:
    return _BrokeOff(str(getattr(error, "reason", "") or error) or type(error).__name__)
