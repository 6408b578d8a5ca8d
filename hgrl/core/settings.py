"""The settings of a profile, section by section: typed, validated, frozen.

Every default is the paper's own number, or says why it is not; a profile lists only what differs. The section
`data` stands in `hgrl.core.data_settings`, a method's own settings in its file under
`hgrl/pretraining/methods`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hgrl.core.data_settings import (
    AtLeastOne,
    Count,
    DataSettings,
    Fraction,
    Milestones,
    NotNegative,
    Positive,
    Range,
    Section,
    Seeds,
    Shares,
    Source,
    ascending,
)

Layer = Literal["backbone", "stages", "hypercolumn", "embedding"]  # stages: Res3 and Res4 of the backbone
Head = Annotated[str, Field(pattern=r"^(aspp|linear|fcn)-(backbone|stages|hypercolumn|embedding)$")]
Heads = Annotated[tuple[Head, ...], Field(min_length=1)]


GROUPING_PRESETS: dict[str, dict[str, Any]] = {
    # for large sets: under half a second a photograph
    "fast": {"sharpen": 2, "scales": (1.0,), "spectral": False, "arc_strength": "mean"},
    # the defaults: under two seconds
    "best": {"sharpen": 2, "scales": (0.5, 1.0), "spectral": True, "arc_strength": "oriented"},
}


class GroupingSettings(Section):
    # a name in GROUPING_PRESETS, whose values stand instead of the defaults; what is given beside it wins
    preset: str | None = None
    # section 4.1: structured edges; table 1 has a row with HED's; pidinet: the best without ImageNet
    edges: Literal["forest", "hed", "pidinet"] = "forest"
    mirror: bool = True  # `edges: pidinet` looks at the mirrored image too: twice the time
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


class PidinetSettings(Section):
    """How the edge network of `edges: pidinet` is trained: as its paper (ICCV 2021), or why not."""

    size: Literal["tiny", "small", "full"] = "small"  # 84, 184 and 710 thousand parameters
    sources: tuple[Source, ...] = (
        Source(kind="bsds", folder="BSDS500", split="train"),
        Source(kind="bsds", folder="BSDS500", split="val"),
    )
    consensus: float = Field(0.3, gt=0, le=1)  # share of the annotators that makes an edge
    none_weight: Positive = 1.1  # what pixels without an edge count beside the balance
    crop_size: int = Field(240, ge=16, multiple_of=8)  # the paper learns from whole images
    resized: tuple[Positive, Positive] = (0.5, 1.5)  # images are, by a factor between these
    angles: AtLeastOne = 16  # of rotations
    jitter: Fraction = 0.2  # of saturation, contrast and brightness; the paper has none
    iterations: AtLeastOne = 8_000
    batch: AtLeastOne = 8
    lr: Positive = 5e-3  # Adam's
    average: Fraction = 0.999  # of the weights' moving average, which is the result
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Count = 0
    checkpoint_minutes: NotNegative = 10.0  # also written at the end

    @field_validator("resized")
    @classmethod
    def _smaller_first(cls, factors: tuple[float, float]) -> tuple[float, float]:
        return ascending(factors)


class NetworkSettings(Section):
    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"  # section 4.2
    width: AtLeastOne = 64  # channels of the stem; 64 is torchvision's
    # Res3 and Res4: layer2 and layer3
    hypercolumn_stages: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field((2, 3), min_length=1)
    hypercolumn_channels: AtLeastOne = 256
    embedding_dim: AtLeastOne = 32


class ViewSettings(Section):
    """How a view is drawn, by default as in section 4.2. Rivals have their authors' way in their files."""

    crop_area: Range = (0.2, 1.0)  # the paper gives none; MoCo's range
    flip: Fraction = 0.5
    jitter: Fraction = 1.0  # probability that the colours are jittered
    brightness: NotNegative = 0.4  # strengths: MoCo's
    contrast: NotNegative = 0.4
    saturation: NotNegative = 0.4
    hue: float = Field(0.1, ge=0, le=0.5)
    greyscale: Fraction = 0.0  # probability; the paper names none
    blur: Fraction = 0.0  # probability; the paper names none


class AugmentSettings(ViewSettings):
    # section 4.2; the embedding has a cell for every 4x4 pixels
    crop_size: int = Field(224, ge=4, multiple_of=4)
    # what the pixel contrast compares: two augmented views, with pixels drawn afresh in each; or the image
    # and one view, with the same pixels in both (the paper's words). Other methods always augment both
    views: Literal["both", "one"] = "both"


class ClipsSettings(Section):
    """What methods of motion learn from: `data.clips`, or stills in motion (`hgrl.sampling.clips`).

    Motions are from a frame to the next, and standard deviations."""

    frames: int = Field(4, ge=2)  # of a clip: Vondrick et al.'s three references and a target
    stride: AtLeastOne = 1  # a video's frames from one of the clip to the next
    translation: NotNegative = (
        0.05  # of the frame's side; DAVIS's frames move by 1 to 3 % of theirs, at 24 Hz
    )
    rotation: NotNegative = 3.0  # degrees
    scale: NotNegative = 0.04  # of its logarithm
    shear: NotNegative = 0.02  # of each number of the 2x2 matrix
    bend: NotNegative = 0.01  # of the side: the spline's 3x3 control points
    objects: tuple[Count, Count] = (1, 3)  # pasted objects, at least and at most; FlyingChairs has 4 to 25

    @field_validator("objects")
    @classmethod
    def _fewest_first(cls, numbers: tuple[int, int]) -> tuple[int, int]:
        return ascending(numbers)


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
    optimizer: Literal["adam", "sgd"] = "adam"  # section 4.2
    momentum: Fraction = 0.9  # of SGD alone
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


class EndToEndSettings(Section):
    """How head and network are trained together from scratch: a supervised upper bound."""

    head: Head | None = None  # None: the probe's first
    optimizer: Literal["sgd", "adam"] = "sgd"  # sgd: with the probe's momentum and weight decay
    lr: Positive = 0.03
    schedule: Literal["step", "cosine"] = "step"  # step: at the probe's milestones
    iterations: AtLeastOne = 20_000


class ProbeSettings(Section):
    heads: Heads = ("aspp-backbone", "linear-backbone", "aspp-embedding", "linear-embedding")
    iterations: AtLeastOne = 20_000  # section 4.2
    schedule: Literal["step", "cosine"] = "step"  # step: by .1 at the milestones
    milestones: Milestones = (0.5, 0.75)  # 10k and 15k of 20k
    # A pixel's weight in the loss falls with this power of its class's frequency: 0, the paper's, weighs all
    # alike; at 1 (Eigen & Fergus, ICCV 2015) every class has the same share of the loss
    class_balance: Fraction = 0.0
    end_to_end: EndToEndSettings = EndToEndSettings()
    batch: int = Field(20, ge=2)  # batch normalisation of the pooled branch needs two
    lr: Positive = 0.03
    momentum: Fraction = 0.9
    weight_decay: NotNegative = 5e-4
    crop_size: AtLeastOne = 384
    crops: bool = True  # "randomly crop and resize"; False: whole images, embedded once, and kept
    crop_area: Range = (0.25, 1.0)  # the paper gives no range
    keep_in_memory: bool = False  # decode every image once; for sets that fit
    atrous_rates: tuple[AtLeastOne, ...] = (12, 24, 36)  # torchvision's DeepLabV3
    fcn_dilation: AtLeastOne = 6  # MoCo's paper
    head_channels: AtLeastOne = 256
    short_side: AtLeastOne | None = None  # of images when read; masks are scored at their own size

    @property
    def headline(self) -> Head:
        """The head whose scores stand for a run in tables, claims and pictures."""
        return self.heads[0]


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


class Propagation(Section):
    """How masks are carried along by neighbours in feature space; the values of table 3's column `paper`."""

    first_frame: bool = False  # whether the first frame votes for good, from anywhere in it
    previous_frames: AtLeastOne = 2  # section 5.3
    neighbours: AtLeastOne = 10  # of all voting frames together
    coordinate_weight: NotNegative = 0.5  # of (x, y) / longer side; the paper gives none; tuned for colour
    # how far a neighbour may be away, in cells of a grid with 60 rows (480p at stride 8): it grows with the
    # grid. None: anywhere
    radius: Positive | None = None
    temperature: Positive | None = None  # of a softmax; None: neighbours count as much as they are similar


class FieldPropagation(Propagation):
    """Column `field`: how CRW (Jabri et al., NeurIPS 2020; ajabri/videowalk) evaluates every method."""

    first_frame: bool = True
    previous_frames: AtLeastOne = 20
    coordinate_weight: NotNegative = 0.0
    radius: Positive | None = 12.0
    temperature: Positive | None = 0.05


class TrackingSettings(Section):
    # section 5.3: F; "...+lab" joins Lab colour to a layer, which the paper does not do. Methods that do not
    # train it are read at the backbone's Res4 with its stride taken out
    layer: Annotated[str, Field(pattern=r"^(backbone|hypercolumn|embedding)(\+lab)?$")] = "embedding"
    lab_share: Fraction = 0.97  # of colour in the cosine of "...+lab"; best on the tune videos
    short_side: AtLeastOne = 480  # frames are resized to it before the network
    # enlarge them further for the backbone, until its grid of stride 8 is that of the embedding, of stride 4
    one_grid: bool = False
    finer: Positive = 1.0  # frames are enlarged by it beyond that
    paper: Propagation = Propagation()  # every run is scored by both
    field: FieldPropagation = FieldPropagation()


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
    groupings: dict[str, dict[str, Any]] = Field({"hed": {"edges": "hed"}})  # named changes of `grouping`
    hed: HedSettings = HedSettings()
    pidinet: PidinetSettings = PidinetSettings()
    network: NetworkSettings = NetworkSettings()
    augment: AugmentSettings = AugmentSettings()
    clips: ClipsSettings = ClipsSettings()
    sampling: SamplingSettings = SamplingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    methods: dict[str, dict[str, Any]] = Field({})  # method -> its own settings: hgrl/pretraining/methods
    pretrain: PretrainSettings = PretrainSettings()
    probe: ProbeSettings = ProbeSettings()
    finetune: FineTuneSettings = FineTuneSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    tracking: TrackingSettings = TrackingSettings()
    ablation: TrialSettings = TrialSettings()  # notebook 07's cells
    # seeds that no row reports
    tuning: TrialSettings = TrialSettings(seeds=(100,), epochs=None, head="aspp-backbone", iterations=None)
    tuned: dict[str, dict[str, Any]] = Field({})  # what `tuning` chose: method -> {dotted setting: value}
    convergence: ConvergenceSettings = ConvergenceSettings()
    without: dict[str, str] = Field({})  # runs not made here, nor those that start from them -> why
    extra_heads: tuple[Head, ...] = ()  # further heads of the probe, which the extras read
    more_seeds: dict[str, Seeds] = Field({})  # run -> seeds that it has beside `seeds`
    # run -> {dotted setting: value}, over what params.yaml overrides: other data, another length
    runs: dict[str, dict[str, Any]] = Field({})
    stand_in: dict[str, str] = Field({})  # a data set of the paper's rows -> what stands in for it here
