"""The one table of archives: where each comes from, how large it is, its checksum, what it unpacks to, and
under which terms.

Checksums are those that others check the same file against: torchvision (VOC, SBD), TensorFlow Datasets
(COCO, DAVIS), and several projects that agree (BSDS500).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GB = 10**9


@dataclass(frozen=True)
class Archive:
    """One file to download."""

    addresses: tuple[str, ...]  # tried in order
    size: int | None  # bytes; None: not published to the byte
    checksum: str | None  # "sha256:..." or "md5:..."; None: not published
    top: str  # the one folder that it unpacks to; other entries (a Mac's __MACOSX) are left out
    about: int  # bytes to download, where `size` is None
    unpacked: int  # bytes, about

    @property
    def file(self) -> str:
        return self.addresses[0].rpartition("/")[2]

    @property
    def download(self) -> int:
        """Bytes to expect, exactly or about."""
        return self.size or self.about


@dataclass(frozen=True)
class Split:
    """What the loader of `kind` must find in one split."""

    kind: str
    folder: str  # below the data root
    name: str
    count: int | None  # published number; None: there is none
    unit: str = "images"


@dataclass(frozen=True)
class DataSet:
    """One name that `python -m hgrl fetch` knows."""

    title: str
    folder: str  # below the data root; a profile's sources name the same one
    archives: tuple[Archive, ...]
    splits: tuple[Split, ...]
    terms: str


DATA_SETS = {
    "bsds500": DataSet(
        title="Berkeley Segmentation Data Set 500",
        folder="BSDS500",
        archives=(
            Archive(
                addresses=(
                    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
                    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
                ),
                size=70_763_455,
                checksum="sha256:97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",
                top="BSR",
                about=70_763_455,
                unpacked=80_000_000,
            ),
        ),
        splits=tuple(
            Split("bsds", "BSDS500", name, count)
            for name, count in (("train", 200), ("val", 100), ("test", 200))
        ),
        terms="non-commercial research and education",
    ),
    "voc2012": DataSet(
        title="PASCAL VOC 2012, train and val",
        folder="VOC2012",
        archives=(
            Archive(
                addresses=(
                    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
                ),
                size=1_999_639_040,
                checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
                top="VOCdevkit",
                about=1_999_639_040,
                unpacked=2 * GB,
            ),
        ),
        splits=(Split("voc", "VOC2012", "train", 1464), Split("voc", "VOC2012", "val", 1449)),
        terms="Flickr's terms of use",
    ),
    "sbd": DataSet(
        title="Semantic Boundaries Dataset: the masks that make VOC's train_aug",
        folder="SBD",
        archives=(
            Archive(
                addresses=(
                    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                ),
                size=None,
                checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
                top="benchmark_RELEASE",
                about=1_420_000_000,
                unpacked=int(1.7 * GB),
            ),
        ),
        splits=(
            Split("sbd", "SBD", "train", 8498, "masks"),
            Split("sbd", "SBD", "val", 2857, "masks"),
            Split("voc", "VOC2012", "train_aug", 10582),  # section 4.1
        ),
        terms="images under Flickr's terms of use",
    ),
    "coco2014": DataSet(
        title="COCO train2014, images and instance annotations",
        folder="coco",
        archives=(
            Archive(
                addresses=("http://images.cocodataset.org/zips/train2014.zip",),
                size=13_510_573_713,
                checksum="sha256:ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                top="train2014",
                about=13_510_573_713,
                unpacked=int(13.6 * GB),
            ),
            Archive(
                addresses=("http://images.cocodataset.org/annotations/annotations_trainval2014.zip",),
                size=252_872_794,
                checksum="sha256:031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                top="annotations",
                about=252_872_794,
                unpacked=900_000_000,
            ),
        ),
        splits=(
            Split("coco", "coco", "train2014", 82783),
            Split("coco-json", "coco", "train2014", 1, "annotation file"),
        ),
        terms="annotations CC BY 4.0; images under Flickr's terms of use",
    ),
    "davis2017": DataSet(
        title="DAVIS 2017, train and val at 480p",
        folder="DAVIS",
        archives=(
            Archive(
                addresses=("https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",),
                size=832_766_765,
                checksum="sha256:e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
                top="DAVIS",
                about=832_766_765,
                unpacked=850_000_000,
            ),
        ),
        splits=(Split("davis", "DAVIS", "train", 60, "videos"), Split("davis", "DAVIS", "val", 30, "videos")),
        terms="non-commercial research",
    ),
    "imagenet": DataSet(
        title="ImageNet (ILSVRC 2012)",
        folder="imagenet",
        archives=(),  # behind an account
        splits=(
            Split("imagenet", "imagenet", "train", 1_281_167),
            Split("imagenet-classes", "imagenet", "train", 1000, "classes"),
            Split("imagenet", "imagenet", "val", 50_000),
        ),
        terms="non-commercial research and education, with an account of image-net.org",
    ),
}
IMAGENET_FILES = {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
}
IMAGENET_HELP = """ImageNet cannot be fetched by a program: its terms ask for an account.
1. Register at https://image-net.org/ and accept the terms.
2. Under "Download", ILSVRC 2012, get {files}.
3. Unpack them so that there are 1,000 folders {folder}/train/<wnid>/*.JPEG (the train archive holds one archive a class)
   and the 50,000 images of {folder}/val/, flat or in folders of their classes.
4. Run this command again: it counts what is there."""


def imagenet_help(folder: Path) -> str:
    """Where ImageNet comes from and where it has to lie."""
    return IMAGENET_HELP.format(
        files=" and ".join(f"{name} (md5 {md5})" for name, md5 in IMAGENET_FILES.items()), folder=folder
    )
