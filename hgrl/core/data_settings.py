"""What sections of settings are made of, and the section `data`: sets, splits and what each is for."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def ascending(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if any(before > after for before, after in pairwise(numbers)):
        raise ValueError("the smaller number comes first")
    return numbers


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} stands there twice")
    return values


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)]
Seeds = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_distinct)]
# fractions of a run's length, not epochs
Milestones = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], AfterValidator(ascending)]
Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]


class Section(BaseModel):
    """A frozen settings section: an unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScenesSettings(Section):
    """How much of the embedded data set to draw (`hgrl.data.scenes.draw`)."""

    size: int = Field(64, ge=32, le=512)  # image side in pixels; objects are 13 to 23 px in radius at 64
    unlabelled: int = Field(3000, ge=0)  # no masks: for pretraining
    objects: int = Field(0, ge=0)  # no masks: images of one object, and as many of 5 to 7, else alike
    train: int = Field(800, ge=0)
    tune: int = Field(200, ge=0)  # for choosing settings; never reported
    val: int = Field(300, ge=0)  # reported
    videos: int = Field(20, ge=0)  # in the reported split; a quarter as many go to the tune split
    frames: int = Field(12, ge=1)
    clips: int = Field(0, ge=0)  # unlabelled videos of as many frames: for pretraining
    contours: int = Field(40, ge=0)  # images with BSDS-style ground truth in each of train, val and test
    seed: int = Field(2020, ge=0)


class Source(Section):
    """One split of one data set: which loader, which folder under the data root, which split."""

    kind: Literal["voc", "coco", "bsds", "davis", "imagenet", "folder"]  # folder: any images
    folder: str
    split: str
    part: Range = (0.0, 1.0)  # only this stretch of the split's images, or of a `davis` split's videos
    # of `voc`: the classes to score, by name, numbered in this order; all others are void. None: all
    classes: Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_distinct)] | None = None
    void: int = Field(255, ge=0, le=255)  # of `voc`: an id in masks that is void, as 255 always is


class LabelledSet(Section):
    """A data set that features are judged on: heads and segments of `train`, scored on `val`."""

    train: Source
    val: Source


SetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w-]*$")]  # also a folder's name


class DataSettings(Section):
    scenes: ScenesSettings | None = None  # None: the data root holds real data sets
    pretrain: tuple[Source, ...] = (
        Source(kind="voc", folder="VOC2012", split="train_aug"),
        Source(kind="coco", folder="coco", split="train2014"),
    )  # section 4.1
    # what runs with a `data.pretrain` of their own learn from: trees are grown for these as well
    extra: tuple[Source, ...] = ()
    # videos that methods of motion learn from; None: the stills of `pretrain`, moved (section `clips`)
    clips: Source | None = None
    fraction: float = Field(1.0, gt=0, le=1)  # share of the pretraining images; table 1's "COCO x 0.5"
    short_side: AtLeastOne | None = None  # pretraining images are resized to it once, when read
    keep_in_memory: bool = False  # decode every pretraining image once; for sets that fit
    # what probe and retrieval are scored on, in this order; the first is `primary`. Section 4.1's alone
    labelled: Annotated[dict[SetName, LabelledSet], Field(min_length=1)] = {
        "voc": LabelledSet(
            train=Source(kind="voc", folder="VOC2012", split="train_aug"),
            val=Source(kind="voc", folder="VOC2012", split="val"),
        )
    }
    # what the method `supervised` learns from: folders named by class (imagenet), or the classes in masks
    # (voc). None: the masks of `primary`
    labels: Source | None = None
    # None: nothing to track on; the stage `tracking` is refused
    videos: Source | None = Source(kind="davis", folder="DAVIS", split="val")
    contours: Source = Source(kind="bsds", folder="BSDS500", split="test")

    @property
    def primary(self) -> LabelledSet:
        """The first labelled set."""
        return next(iter(self.labelled.values()))

    @property
    def label_source(self) -> Source:
        """The images that `supervised` learns from."""
        return self.labels or self.primary.train
