"""What every data set becomes: named images with label masks, and videos with object masks."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hgrl.core.errors import InputError
from hgrl.core.labels import VOID
from hgrl.data.images import image_size, read_image, read_mask
from hgrl.data.sets.msrc import SUFFIX as MSRC_SUFFIX
from hgrl.data.sets.msrc import read_colour_mask
from hgrl.data.sets.sbd import read_mat_mask


@dataclass(frozen=True)
class Samples:
    """Images of one or several data sets; `masks` and `labels` are None without any.

    Equal names are an InputError."""

    names: tuple[str, ...]  # unique and filesystem-safe, as "VOC2012/2007_000032"
    images: tuple[Path, ...]
    masks: tuple[Path, ...] | None = None
    classes: tuple[str, ...] = ()  # the index is the class id
    masks_classes: tuple[str, ...] = ()  # those of the mask files, where `classes` are a choice of them
    void: int = VOID  # an id of the mask files that is void, as 255 always is
    labels: tuple[int, ...] | None = None  # the class of each image as a whole

    def __post_init__(self) -> None:
        seen: dict[str, Path] = {}
        for name, image in zip(self.names, self.images, strict=True):
            if name in seen:
                raise InputError(f"{image}: has the same name, {name}, as {seen[name]}; rename one of them")
            seen[name] = image
        for beside in (self.masks, self.labels):
            if beside is not None and len(beside) != len(self.images):
                raise ValueError("images and their masks or labels differ in number")

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, short_side: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB; see `hgrl.data.images.read_image`."""
        return read_image(self.images[index], short_side)

    def shown(self, index: int) -> np.ndarray:
        """(C,) float32: 1 for each class that the image shows, by its label, else by its mask."""
        ids = self.mask(index) if self.labels is None else self.labels[index]
        return np.isin(np.arange(len(self.classes)), ids).astype(np.float32)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) uint8 ids of `classes` at the image's own size, 255 where nothing is scored.

        InputError when there are no masks, when mask and image differ in size, or when an id is no class."""
        if self.masks is None:
            raise InputError(f"{self.images[index]}: this split has no masks; choose a labelled split")
        mask = _read_mask_of(self.masks[index], self.images[index])
        mask[mask == self.void] = VOID
        highest, named = int(mask.max(initial=0, where=mask != VOID)), self.masks_classes or self.classes
        if named and highest >= len(named):
            found = f"id {highest} in a mask of {len(named)} classes"
            remedy = "name every id in classes.txt, or give the source `void: ID` if it is void"
            raise InputError(f"{self.masks[index]}: {found}; {remedy}")
        if not self.masks_classes:
            return mask
        ids = np.full(256, VOID, np.uint8)
        ids[[named.index(name) for name in self.classes]] = np.arange(len(self.classes))
        return ids[mask]

    def with_classes(self, chosen: tuple[str, ...]) -> "Samples":
        """With masks of these classes alone, numbered in this order; all others are void.

        Raises InputError naming one that the masks do not have."""
        if unknown := [name for name in chosen if name not in self.classes]:
            place, known = self.names[0].split("/")[0] if self.names else "it", ", ".join(self.classes)
            raise InputError(f"setting 'classes': no {unknown[0]!r} in {place}; choose from: {known}")
        return dataclasses.replace(self, classes=chosen, masks_classes=self.masks_classes or self.classes)

    def subset(self, indices: Iterable[int]) -> "Samples":
        """The samples at `indices`, in that order."""
        picked = [int(index) for index in indices]
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for of_all in ("classes", "masks_classes", "void"):  # all others have an entry per image
            del fields[of_all]
        parts = {name: values and tuple(values[i] for i in picked) for name, values in fields.items()}
        return dataclasses.replace(self, **parts)


@dataclass(frozen=True)
class Video:
    """One sequence and the objects in it, a mask for every frame."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, t: int, short_side: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB; see `hgrl.data.images.read_image`."""
        return read_image(self.frames[t], short_side)

    def shown(self, index: int) -> np.ndarray:
        """(C,) float32: 1 for each class that the image shows, by its label, else by its mask."""
        ids = self.mask(index) if self.labels is None else self.labels[index]
        return np.isin(np.arange(len(self.classes)), ids).astype(np.float32)

    def mask(self, t: int) -> np.ndarray:
        """(H, W) uint8: 0 background, 1..n objects, 255 void. InputError if not of its frame's size."""
        mask = _read_mask_of(self.masks[t], self.frames[t])
        return (mask == 255).astype(np.uint8) if self.is_binary else mask

    @cached_property
    def is_binary(self) -> bool:
        """Whether the masks are DAVIS-2016's (one object, drawn as 255), not DAVIS-2017's (ids; 255 is void).

        The first mask that is not empty decides: in DAVIS-2017's first frame 255 is never alone."""
        for path in self.masks:
            ids = np.unique(read_mask(path))
            if ids[-1] > 0:
                return bool(np.isin(ids, (0, 255)).all())
        return False


def _read_mask_of(mask_path: Path, image_path: Path) -> np.ndarray:
    """An image's (H, W) uint8 mask: a PNG, or of SBD's or MSRC's own kind. InputError when sizes differ."""
    read = read_mat_mask if mask_path.suffix == ".mat" else read_mask
    mask = (read_colour_mask if mask_path.name.endswith(MSRC_SUFFIX) else read)(mask_path)
    check_size(mask, mask_path, "mask", image_path)
    return mask


def check_size(labels: np.ndarray, path: Path, what: str, image_path: Path) -> None:
    """InputError naming both files when labels (H, W) are not of their image's size."""
    size, own = labels.shape, image_size(image_path)
    if size != own:
        sizes = f"{what} is {size[1]}x{size[0]} but its image {image_path} is {own[1]}x{own[0]}"
        raise InputError(f"{path}: {sizes}; fetch the pair again or remove both")


def sample_name(data_set: str, stem: str) -> str:
    """`data_set/stem` with every character that some filesystem refuses replaced by `_`."""
    return "/".join(re.sub(r"[^\w.\-]|^\.+", "_", part) for part in (data_set, stem))


def sample_names(folder: str, images: Iterable[Path]) -> tuple[str, ...]:
    """Names of a data set's images, by the last part of its folder."""
    return tuple(sample_name(Path(folder).name, image.stem) for image in images)
