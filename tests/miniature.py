"""The real data sets in miniature: their folders and file formats as the official archives unpack, with a few
drawn images in them.
"""

import gzip
from pathlib import Path

import numpy as np
import scipy.sparse
from PIL import Image
from scipy.io import savemat

from hgrl.data.scenes.files import palette_png
from hgrl.data.sets.msrc import COLOURS

VOC, SBD, COCO, DAVIS = "VOC2012/VOCdevkit/VOC2012", "SBD/benchmark_RELEASE/dataset", "coco", "DAVIS/DAVIS"
MSRC, IMAGENETTE = "MSRC/MSRC_ObjCategImageDatabase_v2", "Imagenette/imagenette2-160"


def scene(
    random: np.random.Generator, height: int, width: int, classes: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture (H, W, 3) uint8 of a rectangle for each class, and its mask (H, W) uint8."""
    image, mask = np.full((height, width, 3), 90), np.zeros((height, width), np.uint8)
    for id_ in classes:
        y, x = random.integers(0, height // 2), random.integers(0, width // 2)
        here = np.s_[y : y + height // 2, x : x + width // 2]
        image[here], mask[here] = (40 + 67 * id_ % 200, 250 - 31 * id_ % 200, 120), id_
    return (image + random.integers(-20, 20, image.shape)).clip(0, 255).astype(np.uint8), mask


def put(path: Path, content: np.ndarray | bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def with_void(mask: np.ndarray) -> np.ndarray:
    """VOC's own masks have a void rim around every object."""
    rim = np.zeros(mask.shape, bool)
    rim[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    rim[1:] |= mask[1:] != mask[:-1]
    return np.where(rim, 255, mask).astype(np.uint8)


def write_voc(
    root: Path, train: list[str], val: list[str], others: list[str], size: tuple[int, int] = (72, 96)
) -> dict[str, np.ndarray]:
    """VOC 2012: all images, masks of train and val. Returns the masks, without void, of all images."""
    random, masks = np.random.default_rng(0), {}
    for k, stem in enumerate([*train, *val, *others]):
        image, masks[stem] = scene(random, *size, [1 + k % 20, 1 + (k + 7) % 20])
        put(root / VOC / "JPEGImages" / f"{stem}.jpg", image)
        if stem not in others:
            put(root / VOC / "SegmentationClass" / f"{stem}.png", palette_png(with_void(masks[stem])))
    for split, stems in (("train", train), ("val", val), ("trainval", [*train, *val])):
        put(root / VOC / "ImageSets/Segmentation" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    return masks


def write_sbd(root: Path, masks: dict[str, np.ndarray], train: list[str], val: list[str]) -> None:
    """SBD: `cls` mat files of `train` and `val`, SBD's own splits."""
    for stem in (*train, *val):
        (root / SBD / "cls").mkdir(parents=True, exist_ok=True)
        savemat(root / SBD / "cls" / f"{stem}.mat", {"GTcls": gt_cls(masks[stem])}, do_compression=True)
    for split, stems in (("train", train), ("val", val)):
        put(root / SBD / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))


def gt_cls(mask: np.ndarray) -> dict[str, np.ndarray]:
    """SBD's struct: a sparse boundary map a class, the mask, and the classes that are there."""
    boundaries = np.empty((20, 1), object)
    for k in range(20):
        boundaries[k, 0] = scipy.sparse.csc_matrix((with_void(mask) == 255) & (mask == k + 1))
    present = np.setdiff1d(np.unique(mask), 0).astype(np.uint8)[:, None]
    return {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}


def write_coco(
    root: Path, count: int = 3, split: str = "train2014", size: tuple[int, int] = (64, 80)
) -> list[str]:
    """COCO's images, without annotations. Returns the file names."""
    random = np.random.default_rng(1)
    names = [f"COCO_{split}_{7 * k + 9:012d}.jpg" for k in range(count)]
    for name in names:
        put(root / COCO / split / name, scene(random, *size, [1, 18])[0])
    return names


def write_msrc(root: Path, stems: list[str], size: tuple[int, int] = (64, 96)) -> dict[str, np.ndarray]:
    """MSRC's archive: BMP images, masks in colours. Returns the masks of ids, 255 void, horse, mountain."""
    random, masks = np.random.default_rng(4), {}
    table = np.array([*COLOURS.values(), (0, 0, 0), (128, 0, 128), (64, 0, 0)], np.uint8)
    for k, stem in enumerate(stems):
        image, drawn = scene(random, *size, [1 + k % 21, 1 + (k + 7) % 21, 22 + k % 3])
        drawn = np.where(drawn == 0, 21, drawn - 1)  # void between the rectangles
        masks[stem] = np.where(drawn < 21, drawn, 255).astype(np.uint8)
        put(root / MSRC / "Images" / f"{stem}.bmp", image)
        put(root / MSRC / "GroundTruth" / f"{stem}_GT.bmp", table[drawn])
    return masks


def write_imagenette(root: Path, images: int = 3) -> None:
    """Imagenette: three classes, and one image each of `val`; its table of noisy labels beside them."""
    random = np.random.default_rng(5)
    for c, wnid in enumerate(("n01440764", "n02102040", "n02979186")):
        names = [f"train/{wnid}/{wnid}_{k}" for k in range(images)]
        for name in (*names, f"val/{wnid}/ILSVRC2012_val_{c:08d}"):
            put(root / IMAGENETTE / f"{name}.JPEG", scene(random, 20, 24, [c + 1])[0])
    put(root / IMAGENETTE / "noisy_imagenette.csv", "path,noisy_labels_0\n")


def write_lists(folder: Path, **names: list[str]) -> Path:
    """Lists as the package ships them: {"msrc_train": [names]}."""
    for name, listed in names.items():
        put(folder / f"{name}.txt.gz", gzip.compress("\n".join(listed).encode()))
    return folder


def write_davis(
    root: Path, train: list[str], val: list[str], frames: int = 4, size: tuple[int, int] = (64, 96)
) -> None:
    """DAVIS-2017: two objects that move to the right, palette masks with their ids."""
    random, (height, width) = np.random.default_rng(2), size
    for name in (*train, *val):
        for t in range(frames):
            image, mask = np.full((height, width, 3), 100), np.zeros(size, np.uint8)
            for id_, (y, colour) in enumerate(((8, (220, 60, 60)), (36, (60, 60, 220))), 1):
                here = np.s_[y : y + 20, 10 + 3 * t : 40 + 3 * t]
                image[here], mask[here] = colour, id_
            noisy = (image + random.integers(-15, 15, image.shape)).clip(0, 255).astype(np.uint8)
            put(root / DAVIS / "JPEGImages/480p" / name / f"{t:05d}.jpg", noisy)
            put(root / DAVIS / "Annotations/480p" / name / f"{t:05d}.png", palette_png(mask))
    for split, names in (("train", train), ("val", val)):
        put(root / DAVIS / "ImageSets/2017" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def write_imagenet(root: Path, classes: int = 3, images: int = 2, flat_val: bool = True) -> None:
    """ImageNet: `train/<wnid>/<wnid>_<k>.JPEG`, and a flat or a foldered `val`."""
    random = np.random.default_rng(3)
    for c in range(classes):
        wnid = f"n{1440764 + c:08d}"
        for k in range(images):
            put(root / "ImageNet/train" / wnid / f"{wnid}_{k}.JPEG", scene(random, 20, 24, [c + 1])[0])
        place = root / "ImageNet/val" if flat_val else root / "ImageNet/val" / wnid
        put(place / f"ILSVRC2012_val_{c + 1:08d}.JPEG", scene(random, 20, 24, [c + 1])[0])
