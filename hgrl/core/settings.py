"""The settings of a profile, section by section: typed, validated, frozen.

Every default is the paper's own number, or says why it is not; a profile lists only what differs. A method's
own settings stand in its file under `hgrl/pretraining/methods`."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


def _ascending(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if any(before > after for before, after in pairwise(numbers)):
        raise ValueError("the smaller number comes first")
    return numbers


def _distinct(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("a number stands there twice")
    return numbers


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Fraction, Fraction], AfterValidator(_ascending)]
Seeds = Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_distinct)]
# fractions of a run's length, not epochs
Milestones = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], AfterValidator(_ascending)]
Shares = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
Layer = Literal["backbone", "hypercolumn", "embedding"]
Head = Annotated[str, Field(pattern=r"^(aspp|linear|fcn)-(backbone|hypercolumn|embedding)$")]
Heads = Annotated[tuple[Head, ...], Field(min_length=1)]


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
    contours: int = Field(40, ge=0)  # images with BSDS-style ground truth in each of train, val and test
    seed: int = Field(2020, ge=0)


class Source(Section):
    """One split of one data set: which loader, which folder under the data root, which split."""

    kind: Literal["voc", "coco", "bsds", "davis", "imagenet", "folder"]  # folder: any images
    folder: str
    split: str
    part: Range = (0.0, 1.0)  # only this stretch of the split's images, in the split's order


class DataSettings(Section):
    scenes: ScenesSettings | None = None  # None: the data root holds real data sets
    pretrain: tuple[Source, ...] = (
        Source(kind="voc", folder="VOC2012", split="train_aug"),
        Source(kind="coco", folder="coco", split="train2014"),
    )  # section 4.1
    # what runs with a `data.pretrain` of their own learn from: trees are grown for these as well
    extra: tuple[Source, ...] = ()
    fraction: float = Field(1.0, gt=0, le=1)  # share of the pretraining images; table 1's "COCO x 0.5"
    short_side: AtLeastOne | None = None  # pretraining images are resized to it once, when read
    keep_in_memory: bool = False  # decode every pretraining image once; for sets that fit
    probe_train: Source = Source(kind="voc", folder="VOC2012", split="train_aug")  # section 4.1
    probe_val: Source = Source(kind="voc", folder="VOC2012", split="val")
    videos: Source = Source(kind="davis", folder="DAVIS", split="val")
    contours: Source = Source(kind="bsds", folder="BSDS500", split="test")


GROUPING_PRESETS: dict[str, dict[str, Any]] = {
    # for large sets: under half a second a photograph
    "fast": {"sharpen": 2, "scales": (1.0,), "spectral": False, "arc_strength": "mean"},
    # the defaults: under two seconds
    "best": {"sharpen": 2, "scales": (0.5, 1.0), "spectral": True, "arc_strength": "oriented"},
}


class GroupingSettings(Section):
    # a name in GROUPING_PRESETS, whose values stand instead of the defaults; what is given beside it wins
    preset: str | None = None
    edges: Literal["forest", "hed"] = "forest"  # section 4.1: structured edges; table 1 has a row with HED's
    sharpen: int = Field(2, ge=0, le=4)  # px, as its paper; 0 is off. +.008 ODS on 50 val images
    # the detector is averaged over these; with 2.0, twice the time for +.003 ODS
    scales: tuple[Positive, ...] = Field((0.5, 1.0), min_length=1)
    spectral: bool = True  # section 4.1: structured edges and a spectral signal, combined
    spectral_mix: Literal["mcg", "minmax", "arcs"] = "arcs"  # three public readings: docs/fidelity.md
    spectral_weight: NotNegative = 0.5  # as good as 1, better than 0 and 2: results/bsds500/ablation_val.md
    spectral_exact: bool = False  # eigenvectors not decimated: 3 to 5 s per photograph
    spectral_refinements: Count = 2  # steps toward the exact ones after decimation; 0: plain decimation
    spectral_derivative: Literal["lattice", "oriented"] = "lattice"  # differences, or TPAMI's filters
    arc_strength: Literal["mean", "oriented"] = "oriented"  # the mean along it, or at its direction
    arc_weight: Literal["length", "root"] = "length"  # what an arc counts in average linkage
    max_regions: int = Field(40, ge=2, le=255)  # section 4.1
    min_area: Count = 800  # px at 481x321; smaller regions are merged before the cut, or slivers fill the 40
    ucm_min_area: Count = 100  # px at 481x321; the same for the uncut hierarchy, which benchmarks score
    image_scale: Positive = 1.0  # images are enlarged by this before detection (patches are 16 px wide)
    self_target: float = Field(0.85, gt=0, lt=1)  # the median P(self) that `height_unit: auto` aims at

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        if name is not None and name not in GROUPING_PRESETS:
            raise ValueError(f"no preset named {name!r}; choose one of: {', '.join(GROUPING_PRESETS)}")
        return {**GROUPING_PRESETS.get(name, {}), **given} if name else given


class HedSettings(Section):
    """How the edge network of `edges: hed` is trained: as its paper (ICCV 2015, section 4.1), or why not."""

    width: AtLeastOne = 64  # channels of the first convolution; 64 is VGG-16's
    imagenet_weights: str | None = None  # torchvision's vgg16 or vgg16_bn file; None: from scratch
    sources: tuple[Source, ...] = (
        Source(kind="bsds", folder="BSDS500", split="train"),
        Source(kind="bsds", folder="BSDS500", split="val"),
    )
    consensus: float = Field(0.5, gt=0, le=1)  # share of the annotators that makes an edge: HED's majority
    shrink: Annotated[tuple[AtLeastOne, ...], Field(min_length=1)] = (1, 2)  # also at half their size
    crop_size: int = Field(320, ge=16, multiple_of=16)  # HED learns from whole images of 400x400
    iterations: AtLeastOne = 10_000
    batch: AtLeastOne = 10
    lr: Positive = 1e-4  # AdamW's; HED's 1e-6 belongs to SGD on a loss summed over the pixels
    weight_decay: NotNegative = 2e-4
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Count = 0
    checkpoint_minutes: NotNegative = 10.0  # also written at the end


class NetworkSettings(Section):
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"  # section 4.2
    width: AtLeastOne = 64  # channels of the stem; 64 is torchvision's
    # Res3 and Res4: layer2 and layer3
    hypercolumn_stages: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field((2, 3), min_length=1)
    hypercolumn_channels: AtLeastOne = 256
    embedding_dim: AtLeastOne = 32


class AugmentSettings(Section):
    # section 4.2; the embedding has a cell for every 4x4 pixels
    crop_size: int = Field(224, ge=4, multiple_of=4)
    crop_area: Range = (0.2, 1.0)  # the paper gives none; MoCo's range
    flip: Fraction = 0.5
    # what the pixel contrast compares: two augmented views, with pixels drawn afresh in each; or the image
    # and one view, with the same pixels in both (the paper's words). Other methods always augment both
    views: Literal["both", "one"] = "both"
    brightness: NotNegative = 0.4  # strengths: MoCo's
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.4
    hue: float = Field(0.1, ge=0, le=0.5)


class SamplingSettings(Section):
    anchors: AtLeastOne = 7  # regions per image, section 4.2
    # regions that both views show first; or at random (the paper's words)
    anchor_choice: Literal["visible", "random"] = "visible"
    positives: AtLeastOne = 10  # a view and anchor
    negatives: Count = 5  # a view and anchor
    sigma_p: Positive = 0.8  # section 4.2
    # pixels from other images an anchor; (5, 20) is read by `cns_reading`
    cns: tuple[Count, ...] = Field((5,), min_length=1)
    # (5, 20): first half 5, second half 20; or both, averaged
    cns_reading: Literal["schedule", "terms"] = "schedule"
    # the unit of d_T, which the paper leaves open
    height_unit: Literal["raw", "rank", "auto"] | Positive = "auto"

    @field_validator("cns", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, str):  # papermill passes "5,20"
            parts = [part.strip() for part in value.split(",")]
            if not all(part.isdecimal() for part in parts):
                raise ValueError("one whole number or several with commas between, e.g. 5 or 5,20")
            value = [int(part) for part in parts]
        return (value,) if isinstance(value, int) else value


class ObjectiveSettings(Section):
    form: Literal["ratio", "log"] = "ratio"  # equation 1 is a sum of ratios
    temperature: Positive = 1.0  # equation 1 has none


class PretrainSettings(Section):
    epochs: AtLeastOne = 80  # section 4.2
    epochs_factor: Positive = 1.0  # a run's epochs against the profile's: 140 / 80 for half the data
    batch: int = Field(70, ge=2)
    lr: Positive = 1e-2
    schedule: Literal["step", "cosine"] = "step"
    milestones: Milestones = (25 / 80, 45 / 80, 60 / 80)  # of the run's length
    decay: Positive = 0.1
    warmup_steps: Count = 0
    weight_decay: NotNegative = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    workers: Count = 8  # loader processes; 0 loads in the training process
    # torch.compile of the backbone and the hypercolumn; the same weights up to rounding
    compile: bool = False
    checkpoint_minutes: NotNegative = 10.0  # also written at the end of the run
    # checkpoints of a run in progress, the newest among them; a complete run keeps that one alone
    keep_last: AtLeastOne = 2
    # shares of the run, whole percents, at whose nearest step a checkpoint stays for good: 0.2 ->
    # seed0.at020.pt
    snapshots: tuple[float, ...] = ()

    @field_validator("snapshots")
    @classmethod
    def _whole_percents(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        percents = [100 * share for share in shares]
        if any(
            not 1 <= round(percent) <= 100 or abs(percent - round(percent)) > 1e-6 for percent in percents
        ):
            raise ValueError("shares of the run in whole percents, above 0 and at most 1")
        return tuple(sorted({round(percent) / 100 for percent in percents}))

    @property
    def run_epochs(self) -> int:
        return max(1, round(self.epochs * self.epochs_factor))


class ProbeSettings(Section):
    heads: Heads = ("aspp-backbone", "linear-backbone", "aspp-embedding", "linear-embedding")
    iterations: AtLeastOne = 20_000  # section 4.2
    milestones: Milestones = (0.5, 0.75)  # 10k and 15k of 20k
    end_to_end_iterations: AtLeastOne = 20_000
    batch: int = Field(20, ge=2)  # batch normalisation of the pooled branch needs two
    lr: Positive = 0.03
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 5e-4
    crop_size: AtLeastOne = 384
    crops: bool = True  # "randomly crop and resize"; False: whole images, embedded once
    crop_area: Range = (0.25, 1.0)  # the paper gives no range
    keep_in_memory: bool = False  # decode every image once; for sets that fit
    atrous_rates: tuple[AtLeastOne, ...] = (12, 24, 36)  # torchvision's DeepLabV3
    fcn_dilation: AtLeastOne = 6  # MoCo's paper
    head_channels: AtLeastOne = 256
    short_side: AtLeastOne | None = None  # of images when read; masks are scored at their own size


class FineTuneSettings(Section):
    """MoCo's protocol for VOC (He et al. 2020, appendix), for runs that start from another's checkpoint."""

    head: Head = "fcn-backbone"
    iterations: AtLeastOne = 30_000
    milestones: Milestones = (0.7, 0.9)
    batch: int = Field(16, ge=2)
    lr: Positive = 0.003
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 1e-4
    crop_size: AtLeastOne = 513
    dilation: AtLeastOne = 6  # of the head's two 3x3 convolutions


class RetrievalSettings(Section):
    segments: int = Field(15, ge=1, le=255)  # table 2; figure 4 draws 10; ids are uint8
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)] = ("embedding", "backbone")
    short_side: AtLeastOne | None = None
    kmeans_iterations: AtLeastOne = 20  # the paper gives none


class TrackingSettings(Section):
    # section 5.3: F; "...+lab" joins Lab colour to a layer, which the paper does not do
    layer: Annotated[str, Field(pattern=r"^(backbone|hypercolumn|embedding)(\+lab)?$")] = "embedding"
    lab_share: Fraction = 0.97  # of colour in the cosine of "...+lab"; best on the tune videos
    variant: Literal["paper", "field"] = "paper"
    previous_frames: AtLeastOne = 2  # section 5.3
    neighbours: AtLeastOne = 10
    coordinate_weight: NotNegative = 0.5  # of (x, y) / longer side; the paper gives none; tuned for colour
    short_side: AtLeastOne = 480  # frames are resized to it before the network
    finer: Positive = 1.0  # frames are enlarged by it beyond that, and so is the radius
    radius: Count = 12  # field's variant: cells a neighbour may be away (CRW)
    temperature: Positive = 0.05  # field's variant (CRW)
    context_frames: AtLeastOne = 20  # field's variant (CRW), and the first frame always
    field_coordinates: bool = False  # field's variant: with the paper's coordinates, which CRW does without


class TrialSettings(Section):
    """How a change of settings is tried: as a reported run or shorter, and scored on the tune split."""

    seeds: Seeds = (0, 1)
    epochs: AtLeastOne | None = 20  # a quarter of the paper's; None: the profile's own
    head: Head = "linear-backbone"
    iterations: AtLeastOne | None = 5_000  # of the probe; None: the profile's own
    train: Source = Source(kind="voc", folder="VOC2012", split="train_aug", part=(0.0, 0.9))
    # never the split that is reported
    val: Source = Source(kind="voc", folder="VOC2012", split="train_aug", part=(0.9, 1.0))


class ConvergenceSettings(Section):
    """How a run is probed along its way: by one head, with as many iterations at every point."""

    shares: Shares = (0.2, 0.4, 0.6, 0.8, 1.0)  # of a run's epochs
    head: Head = "aspp-backbone"  # the paper's
    iterations: AtLeastOne = 5_000  # a quarter of the probe's: fifteen probes a seed


class Settings(Section):
    """Everything one profile and run needs."""

    seeds: Seeds = (0, 1, 2)
    jobs: AtLeastOne = 1  # processes that train or evaluate side by side; 1 on a GPU
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    data: DataSettings = DataSettings()
    grouping: GroupingSettings = GroupingSettings()
    groupings: dict[str, dict[str, Any]] = {"hed": {"edges": "hed"}}  # named changes of `grouping`
    hed: HedSettings = HedSettings()
    network: NetworkSettings = NetworkSettings()
    augment: AugmentSettings = AugmentSettings()
    sampling: SamplingSettings = SamplingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    methods: dict[str, dict[str, Any]] = {}  # method -> its own settings: hgrl/pretraining/methods
    pretrain: PretrainSettings = PretrainSettings()
    probe: ProbeSettings = ProbeSettings()
    finetune: FineTuneSettings = FineTuneSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    tracking: TrackingSettings = TrackingSettings()
    ablation: TrialSettings = TrialSettings()  # notebook 07's cells
    # seeds that no row reports
    tuning: TrialSettings = TrialSettings(seeds=(100,), epochs=None, head="aspp-backbone", iterations=None)
    tuned: dict[str, dict[str, Any]] = {}  # what `tuning` chose: method -> {dotted setting: value}
    convergence: ConvergenceSettings = ConvergenceSettings()
    without: dict[str, str] = {}  # runs not made here, nor those that start from them -> why
