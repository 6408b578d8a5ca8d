"""The table of data sets: where each comes from, its size and checksum, what must be in it, and its terms.

Checksums are those that others check the same file against: torchvision (VOC, SBD), TensorFlow Datasets
(COCO, DAVIS), and several projects that agree (BSDS500)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """One file to download."""

    addresses: tuple[str, ...]  # tried in order
    top: str  # the folder that it unpacks to; entries beside it (a Mac's __MACOSX) are dropped
    size: int  # bytes
    unpacked: int  # bytes, about
    checksum: str  # "sha256:..." or "md5:..."
    size_is_exact: bool = True  # False: not published to the byte

    @property
    def file(self) -> str:
        return self.addresses[0].rpartition("/")[2]


@dataclass(frozen=True)
class Split:
    """What the loader of `kind` must find in one split."""

    kind: str
    folder: str  # below the data root
    name: str
    count: int | None  # as published; None: there is no such number
    unit: str = "images"


@dataclass(frozen=True)
class DataSet:
    """One name that `python -m hgrl fetch` knows."""

    title: str
    folder: str  # below the data root; a profile's sources name the same one
    archive: Archive | None  # None: behind an account
    splits: tuple[Split, ...]
    terms: str

    @property
    def own_splits(self) -> tuple[Split, ...]:
        """The splits that need no other data set."""
        return tuple(split for split in self.splits if split.folder == self.folder)


def _berkeley(path: str) -> tuple[str, ...]:
    place = "www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping"
    return f"https://{place}/{path}", f"http://{place.replace('www2', 'www')}/{path}"


def _splits(kind: str, folder: str, unit: str = "images", **counts: int) -> tuple[Split, ...]:
    return tuple(Split(kind, folder, name, count, unit) for name, count in counts.items())


DATA_SETS = {
    "bsds500": DataSet(
        title="Berkeley Segmentation Data Set 500",
        folder="BSDS500",
        archive=Archive(
            addresses=_berkeley("BSR/BSR_bsds500.tgz"),
            top="BSR",
            size=70_763_455,
            unpacked=80_000_000,
            checksum="sha256:97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",
        ),
        splits=_splits("bsds", "BSDS500", train=200, val=100, test=200),
        terms="non-commercial research and education",
    ),
    "voc2012": DataSet(
        title="PASCAL VOC 2012, train and val",
        folder="VOC2012",
        archive=Archive(
            addresses=(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "http://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
            ),
            top="VOCdevkit",
            size=1_999_639_040,
            unpacked=2_000_000_000,
            checksum="md5:6cd6e144f989b92b3379bac3b3de84fd",
        ),
        splits=_splits("voc", "VOC2012", train=1464, val=1449),
        terms="Flickr's terms of use",
    ),
    "sbd": DataSet(
        title="Semantic Boundaries Dataset: the masks that make VOC's train_aug",
        folder="SBD",
        archive=Archive(
            addresses=_berkeley("semantic_contours/benchmark.tgz"),
            top="benchmark_RELEASE",
            size=1_420_000_000,
            unpacked=1_700_000_000,
            checksum="md5:82b4d87ceb2ed10f6038a1cba92111cb",
            size_is_exact=False,
        ),
        splits=_splits("sbd", "SBD", "masks", train=8498, val=2857)
        + _splits("voc", "VOC2012", train_aug=10582),  # section 4.1
        terms="images under Flickr's terms of use",
    ),
    "coco2014": DataSet(
        title="COCO train2014, images",
        folder="coco",
        archive=Archive(
            addresses=("http://images.cocodataset.org/zips/train2014.zip",),
            top="train2014",
            size=13_510_573_713,
            unpacked=13_600_000_000,
            checksum="sha256:ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        ),
        splits=_splits("coco", "coco", train2014=82783),
        terms="images under Flickr's terms of use",
    ),
    "davis2017": DataSet(
        title="DAVIS 2017, train and val at 480p",
        folder="DAVIS",
        archive=Archive(
            addresses=("https://data.vision.ee.ethz.ch/csergi/share/davis/DAVIS-2017-trainval-480p.zip",),
            top="DAVIS",
            size=832_766_765,
            unpacked=850_000_000,
            checksum="sha256:e3d0b5b77c3d031b000a19e0e25e3e2cac65d183755601bc2cf066df1a2aa492",
        ),
        splits=_splits("davis", "DAVIS", "videos", train=60, val=30),
        terms="non-commercial research",
    ),
    "imagenet": DataSet(
        title="ImageNet (ILSVRC 2012)",
        folder="ImageNet",
        archive=None,
        splits=_splits("imagenet", "ImageNet", train=1_281_167, val=50_000),
        terms="non-commercial research and education, with an account of image-net.org",
    ),
}
IMAGENET_HELP = """ImageNet cannot be downloaded by a program: its terms ask for an account.
1. Register at https://image-net.org/ and accept the terms.
2. Under "Download", ILSVRC 2012, get ILSVRC2012_img_train.tar (md5 1d675b47d978889d74fa0da5fadfb00e)
   and ILSVRC2012_img_val.tar (md5 29b22e2961454d5413ddabcf34fc5622).
3. Unpack them so that there are 1,000 folders {folder}/train/<wnid>/*.JPEG (the train archive holds one
   archive per class) and the 50,000 images of {folder}/val/, flat or in folders of their classes.
4. Run this command again: it counts what is there."""
