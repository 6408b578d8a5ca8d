"""The one place that writes artefacts: to a temporary name in the same folder, then renamed."""

import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hgrl.core.errors import InputError


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` only when the block ends well; what stood there is kept otherwise.

    durable: also survive a power cut; False spares the wait for the disk where thousands of small files are
    cheap to make again.
    Raises InputError when the disk is full or the folder cannot be written."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name}.{os.getpid()}-"
        descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        remedy = "free some disk space or check the folder's permissions, then run again"
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes of this machine left half-written anywhere below a folder."""
    for part in folder.rglob(".*.part") if folder.is_dir() else ():
        writer = re.search(r"\.(\d+)-\w+\.part$", part.name)
        if writer and not _is_alive(int(writer[1])):
            part.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    with replacing(path, durable) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Sorted keys, two spaces: equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run `dvc repro` to make it") from None
    except ValueError:  # not JSON, or not UTF-8
        raise InputError(f"{path}: not valid JSON; delete it and run `dvc repro`") from None


def write_figure(path: Path, figure: Any) -> None:
    """A matplotlib figure as PNG or SVG, without the time stamp and random ids that would make equal pictures
    differ."""
    import matplotlib  # here, for it takes a second to import and few callers draw

    buffer = io.BytesIO()
    kind = path.suffix.lstrip(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):  # without it the ids inside an SVG are random
        figure.savefig(buffer, format=kind, dpi=120, bbox_inches="tight", metadata=metadata)
    write_bytes(path, buffer.getvalue())


def write_png(path: Path, image: Any, durable: bool = True) -> None:
    """A (H, W) or (H, W, 3) uint8 or uint16 array, RGB, without loss."""
    import cv2

    written, content = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    if not written:
        raise InputError(f"{path}: an array of shape {image.shape}, {image.dtype}, is no PNG")
    write_bytes(path, content.tobytes(), durable)
