"""Profiles and runs: YAML files in, typed, validated, frozen settings out.

A profile (`profiles/<name>.yaml`) lists only what differs from the paper: every default below is the paper's
own number, or says why it is not. A run (`params.yaml`, section `runs`) is a named method and what it
overrides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from hgrl.core import paths
from hgrl.core.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller number comes first")
    return pair


class Section(BaseModel):
    """A frozen settings section: an unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScenesSettings(Section):
    """How much of the embedded data set to draw (`hgrl.data.scenes.draw`)."""

    size: int = Field(64, ge=32, le=512)  # image side in pixels; objects are 8 to 17 px in radius at 64
    unlabelled: int = Field(3000, ge=0)  # no masks: for pretraining
    # no masks: images of one object, and as many of 5 to 7, else alike (`hgrl.data.scenes.objects`)
    objects: int = Field(0, ge=0)
    train: int = Field(800, ge=0)
    tune: int = Field(200, ge=0)  # for choosing settings; never reported
    val: int = Field(300, ge=0)  # reported
    videos: int = Field(20, ge=0)  # in the reported split; a quarter as many go to the tune split
    frames: int = Field(12, ge=1)
    contours: int = Field(40, ge=0)  # images with BSDS-style ground truth in each of train, val and test
    seed: int = Field(2020, ge=0)


class Source(Section):
    """One split of one data set: which loader, which folder under the data root, which split."""

    # folder: any images below folder/split, without masks
    kind: Literal["voc", "coco", "coco-masks", "bsds", "camvid", "davis", "imagenet", "folder"]
    folder: str
    split: str
    part: tuple[float, float] = (0.0, 1.0)  # only this stretch of the split's images, in the split's order


class DataSettings(Section):
    scenes: ScenesSettings | None = None  # None: the data root holds real data sets
    pretrain: tuple[Source, ...] = (
        Source(kind="voc", folder="VOC2012", split="train_aug"),
        Source(kind="coco", folder="coco", split="train2014"),
    )  # section 4.1
    # what runs with a `data.pretrain` of their own learn from: trees are grown for these as well
    extra: tuple[Source, ...] = ()
    fraction: float = Field(1.0, gt=0, le=1)  # share of the pretraining images; table 1's "COCO x 0.5"
    short_side: int | None = None  # pretraining images are resized to it once, when read
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
    # three public readings; METHOD.md measured the third
    spectral_mix: Literal["mcg", "minmax", "arcs"] = "arcs"
    # as good as 1, and better than 0 and 2, on BSDS val: results/bsds500/ablation_val.md
    spectral_weight: float = 0.5
    # eigenvectors of the whole image (3 to 5 s a photograph) instead of decimated ones
    spectral_exact: bool = False
    spectral_refinements: Count = 2  # steps toward the exact ones after decimation; 0: plain decimation
    # of the eigenvectors: differences, or TPAMI's oriented filters
    spectral_derivative: Literal["lattice", "oriented"] = "lattice"
    # of an arc: the map's mean, or its response at the arc's direction
    arc_strength: Literal["mean", "oriented"] = "oriented"
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
        if name is None:
            return given
        if name not in GROUPING_PRESETS:
            raise ValueError(
                f"no grouping preset named {name!r}; choose one of: {', '.join(GROUPING_PRESETS)}"
            )
        return {**GROUPING_PRESETS[name], **given}


class HedSettings(Section):
    """How the edge network of `edges: hed` is trained: HED's paper (ICCV 2015, section 4.1) where nothing
    else is said.
    """

    width: AtLeastOne = 64  # channels of the first convolution; 64 is VGG-16's
    # torchvision's vgg16 or vgg16_bn file; None: the trunk starts from scratch
    imagenet_weights: str | None = None
    sources: tuple[Source, ...] = (
        Source(kind="bsds", folder="BSDS500", split="train"),
        Source(kind="bsds", folder="BSDS500", split="val"),
    )
    # share of the annotators that makes a pixel an edge: HED's majority
    consensus: float = Field(0.5, gt=0, le=1)
    # images are also learnt from at half their size
    shrink: Annotated[tuple[AtLeastOne, ...], Field(min_length=1)] = (1, 2)
    crop_size: int = Field(320, ge=16, multiple_of=16)  # HED learns from whole images of 400x400
    iterations: AtLeastOne = 10_000
    batch: AtLeastOne = 10
    lr: Positive = 1e-4  # AdamW's; HED's 1e-6 belongs to SGD on a loss summed over the pixels
    weight_decay: float = Field(2e-4, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Count = 0
    checkpoint_minutes: float = 10.0  # also written at the end


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
    # the paper gives none; MoCo's range
    crop_area: Annotated[tuple[Share, Share], AfterValidator(_ascending)] = (0.2, 1.0)
    flip: Share = 0.5
    brightness: float = Field(0.4, ge=0)  # strengths: MoCo's
    contrast: float = Field(0.4, ge=0)
    saturation: float = Field(0.4, ge=0)
    hue: float = Field(0.1, ge=0, le=0.5)


class SamplingSettings(Section):
    anchors: AtLeastOne = 7  # regions an image, section 4.2
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
            value = [int(part) for part in value.split(",")]
        return (value,) if isinstance(value, int) else value


class ObjectiveSettings(Section):
    form: Literal["ratio", "log"] = "ratio"  # equation 1 is a sum of ratios
    temperature: Positive = 1.0  # equation 1 has none


class MoCoSettings(Section):
    momentum: Share = 0.999  # He et al. 2020, section 3.3 and its code
    queue: AtLeastOne = 65_536
    temperature: Positive = 0.07
    dim: AtLeastOne = 128
    groups: AtLeastOne = 8  # of shuffled batch normalisation: the authors' GPUs


class InstFeatSettings(Section):
    temperature: Positive = 0.1  # Ye et al. 2019, section 4
    dim: AtLeastOne = 128


class SegSortSettings(Section):
    concentration: Positive = 10.0  # Hwang et al. 2019, and its code
    clusters: AtLeastOne = 5  # a side: 25 clusters of spherical K-means an image; 1: the regions alone
    iterations: AtLeastOne = 10


class DenseCLSettings(Section):
    momentum: Share = 0.999  # Wang et al. 2021, section 4, and its code
    queue: AtLeastOne = 65_536
    temperature: Positive = 0.2
    dim: AtLeastOne = 128
    hidden: AtLeastOne = 2048
    cell_weight: Share = 0.5  # lambda
    grid: AtLeastOne = 7  # cells a side that are contrasted: the authors' last stage at 224 px
    groups: AtLeastOne = 8  # as for MoCo


class BestSettings(Section):
    """Ours, not the paper's: what the run `ours-best` adds; results/<profile>/best has the ablation."""

    symmetric: bool = False  # anchors of either view
    pixel_weight: float = Field(1.0, ge=0)  # of equation 1
    region_weight: float = Field(0.0, ge=0)  # of the contrast of whole regions
    region_temperature: Positive = 0.1
    region_dim: AtLeastOne = 128
    momentum: Share | None = None  # of the encoder that gives the targets; None: no such encoder
    hard_negatives: AtLeastOne = 1  # cross-image pixels drawn for each that is kept, the most similar ones


class PretrainSettings(Section):
    epochs: AtLeastOne = 80  # section 4.2
    epochs_factor: Positive = 1.0  # a run's epochs against the profile's: 140 / 80 for half the data
    batch: int = Field(70, ge=2)
    lr: Positive = 1e-2
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[float, ...] = (25 / 80, 45 / 80, 60 / 80)  # of the run's length
    decay: float = 0.1
    warmup_steps: Count = 0
    weight_decay: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    workers: Count = 8  # loader processes; 0 loads in the training process
    # torch.compile of the backbone and the hypercolumn; the same weights up to rounding
    compile: bool = False
    checkpoint_minutes: float = 10.0  # also written at the end of the run
    # checkpoints of a run in progress, the newest among them; a complete run keeps that one alone
    keep_last: AtLeastOne = 2
    # also the one after the epoch of the lowest mean loss, unless that is the last epoch
    keep_best: bool = True
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
    heads: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "aspp-backbone",
        "linear-backbone",
        "aspp-embedding",
        "linear-embedding",
    )
    iterations: AtLeastOne = 20_000  # section 4.2
    milestones: tuple[float, ...] = (0.5, 0.75)  # 10k and 15k of 20k
    end_to_end_iterations: AtLeastOne = 20_000
    batch: int = Field(20, ge=2)  # batch normalisation of the pooled branch needs two
    lr: Positive = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_size: AtLeastOne = 384
    # "randomly crop and resize"; False: whole images, whose frozen features are computed once
    crops: bool = True
    # the paper gives no range
    crop_area: Annotated[tuple[Share, Share], AfterValidator(_ascending)] = (0.25, 1.0)
    keep_in_memory: bool = False  # decode every image once; for sets that fit
    atrous_rates: tuple[int, ...] = (12, 24, 36)  # torchvision's DeepLabV3
    fcn_dilation: AtLeastOne = 6  # MoCo's paper
    head_channels: int = 256
    # images are resized to it when read; None: their own size. Masks are scored at theirs
    short_side: int | None = None


class FineTuneSettings(Section):
    """The protocol of MoCo's paper (He et al. 2020, appendix on PASCAL VOC segmentation), for runs that start
    from another's checkpoint.
    """

    head: str = "fcn-backbone"
    iterations: AtLeastOne = 30_000
    milestones: tuple[float, ...] = (0.7, 0.9)
    batch: int = Field(16, ge=2)
    lr: Positive = 0.003
    momentum: float = 0.9
    weight_decay: float = 1e-4
    crop_size: AtLeastOne = 513
    dilation: AtLeastOne = 6  # of the head's two 3x3 convolutions


class RetrievalSettings(Section):
    segments: int = Field(15, ge=1, le=255)  # table 2; figure 4 draws 10; ids are uint8
    layers: tuple[str, ...] = ("embedding", "backbone")
    short_side: int | None = None
    kmeans_iterations: AtLeastOne = 20  # the paper gives none


class TrackingSettings(Section):
    # section 5.3: F; "...+lab" joins Lab colour to a layer, which the paper does not do
    layer: Annotated[str, Field(pattern=r"^(backbone|hypercolumn|embedding)(\+lab)?$")] = "embedding"
    # of colour in the cosine of a layer "...+lab": those of colours differ far less than F's; best on the
    # tune videos
    lab_share: Share = 0.97
    variant: Literal["paper", "field"] = "paper"
    previous_frames: AtLeastOne = 2  # section 5.3
    # paper's variant: the first frame, whose labels are true, votes always; the field's does so anyway
    first_frame: bool = False
    neighbours: AtLeastOne = 10
    # of (x, y) / longer side; the paper gives none; colour's best on the tune videos
    coordinate_weight: float = Field(0.5, ge=0)
    short_side: AtLeastOne = 480  # frames are resized to it before the network
    # features are read from frames enlarged by it beyond that, and the radius grows with them
    finer: Positive = 1.0
    radius: int = Field(12, ge=0)  # field's variant: cells a neighbour may be away (CRW)
    temperature: float = Field(0.05, gt=0)  # field's variant (CRW)
    context_frames: AtLeastOne = 20  # field's variant (CRW), and the first frame always
    field_coordinates: bool = False  # field's variant: with the paper's coordinates, which CRW does without


class TrialSettings(Section):
    """How a change of the settings is tried: trained and scored as a reported run or shorter, and on the tune
    split.
    """

    seeds: tuple[int, ...] = (0, 1)
    epochs: AtLeastOne | None = 20  # a quarter of the paper's; None: the profile's own
    head: str = "linear-backbone"
    iterations: AtLeastOne | None = 5_000  # of the probe; None: the profile's own
    train: Source = Source(kind="voc", folder="VOC2012", split="train_aug", part=(0.0, 0.9))
    # never the split that is reported
    val: Source = Source(kind="voc", folder="VOC2012", split="train_aug", part=(0.9, 1.0))


class ConvergenceSettings(Section):
    """How a run is probed along its way: the probe's own protocol with one head, and as many iterations at
    every point.
    """

    # of a run's epochs
    shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        0.2,
        0.4,
        0.6,
        0.8,
        1.0,
    )
    head: str = "aspp-backbone"  # the paper's
    iterations: AtLeastOne = 5_000  # a quarter of the probe's: fifteen probes a seed


class Settings(Section):
    """Everything one profile and run needs."""

    profile: str
    seeds: tuple[Count, ...] = Field((0, 1, 2), min_length=1)
    jobs: AtLeastOne = 1  # processes that train or evaluate side by side; 1 on a GPU
    device: str = "auto"
    data: DataSettings = DataSettings()
    grouping: GroupingSettings = GroupingSettings()
    # named variants, and what each changes in `grouping`
    groupings: dict[str, dict[str, Any]] = {"hed": {"edges": "hed"}}
    hed: HedSettings = HedSettings()
    network: NetworkSettings = NetworkSettings()
    augment: AugmentSettings = AugmentSettings()
    sampling: SamplingSettings = SamplingSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    moco: MoCoSettings = MoCoSettings()
    instfeat: InstFeatSettings = InstFeatSettings()
    segsort: SegSortSettings = SegSortSettings()
    densecl: DenseCLSettings = DenseCLSettings()
    best: BestSettings = BestSettings()
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
    # runs that this profile does not make, nor those that start from them -> why, in a few words
    without: dict[str, str] = {}


NOT_IN_PROFILE = "not in this profile"
MISSING_DATA = "data set missing"


class Run(Section):
    """A named method: a row of the tables."""

    method: str  # a name in `hgrl.pretraining.methods.REGISTRY`, or a feature baseline
    end_to_end: bool = False  # the probe also trains the backbone
    # one of the profile's `groupings`: whose trees it learns from; None: those of `grouping` itself
    grouping: str | None = None
    # the run whose checkpoints this one evaluates, in another way; it trains none of its own
    checkpoint_of: str | None = None
    weights: str | None = None  # method `imagenet`: torchvision's file, below the folder of the data sets
    # the only ones it makes sense in, for its data; the others leave it out. None: all
    profiles: tuple[str, ...] | None = None
    overrides: dict[str, Any] = {}  # dotted setting -> value, e.g. {"sampling.cns": [5, 20]}


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; InputError when it is missing or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError(f"{path}: no such file; choose one of: {known}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of settings")
    return content


def load_runs() -> dict[str, Run]:
    """All named runs of `params.yaml`."""
    path = paths.PARAMS
    runs = load_yaml(path).get("runs")
    if not isinstance(runs, dict):
        raise InputError(f"{path}: section 'runs' is missing or not a mapping of names to runs")
    loaded = {name: _validate(Run, value, str(path), f"runs.{name}.") for name, value in runs.items()}
    for name, run in loaded.items():
        start = loaded.get(run.checkpoint_of or name)
        if start is None or start.method != run.method or (start is not run and start.checkpoint_of):
            raise InputError(
                f"{path}: setting 'runs.{name}.checkpoint_of': {run.checkpoint_of!r} is no run of method {run.method!r} that trains"
            )
        if (run.method == "imagenet") != (run.weights is not None):
            raise InputError(
                f"{path}: setting 'runs.{name}.weights': a file name for method 'imagenet', and for no other"
            )
    return loaded


def load_run(name: str) -> Run:
    runs = load_runs()
    if name not in runs:
        raise InputError(f"{paths.PARAMS}: no run named {name!r}; choose one of: {', '.join(runs)}")
    return runs[name]


def left_out(profile: str, name: str) -> str | None:
    """Why a profile leaves a run out, in a few words for its table row: the reason that it gives itself
    (`without`), or the run is another profile's, or learns from a real data set that is not there. None where
    it does not."""
    start, settings = trained_run(name), load_settings(profile)
    if start in settings.without:
        return settings.without[start]
    profiles = load_run(start).profiles
    if profiles is not None and profile not in profiles:
        return NOT_IN_PROFILE
    common, own = settings.data, load_settings(profile, start).data
    if common.scenes is not None:
        return None
    folders = dict.fromkeys(source.folder for source in own.pretrain if source not in common.pretrain)
    missing = [
        folder for folder in folders if not (paths.data_root(profile, embedded=False) / folder).is_dir()
    ]
    return f"{MISSING_DATA}: {', '.join(missing)}" if missing else None


def trained_run(name: str) -> str:
    """The run whose checkpoints a run is evaluated on: its own, or those of `checkpoint_of`."""
    return load_run(name).checkpoint_of or name


def load_settings(
    profile: str, run: str | None = None, grouping: str | None = None, **overrides: Any
) -> Settings:
    """Settings of a profile, then a run's grouping, what its method was tuned to, its overrides, and the
    caller's (`sampling__cns=5` or dotted keys in a dict), each over what stands before it.

    grouping: a name in the profile's `groupings` to use without a run.

    Raises InputError naming the file and the key for anything unknown, mistyped or out of range.
    """
    path = paths.profile_file(profile)
    content = {"profile": profile, **load_yaml(path)}
    # each layer by itself, so that the right file is blamed
    settings = _validate(Settings, content, str(path))
    definition = load_run(run) if run is not None else None
    variant = grouping or (definition and definition.grouping)
    if variant:
        settings = _with_grouping(content, settings, variant, str(path))
    if definition is not None:
        settings = _overridden(
            content, settings.tuned.get(definition.method, {}), f"{path}: tuned.{definition.method}"
        )
        settings = _overridden(content, definition.overrides, f"{paths.PARAMS}: runs.{run}")
    if overrides:
        settings = _overridden(
            content, {key.replace("__", "."): value for key, value in overrides.items()}, "overrides"
        )
    return settings


def grouping_preset(name: str, **overrides: Any) -> GroupingSettings:
    """The grouping settings of a preset, with overrides on top. Raises InputError for an unknown name or
    setting.
    """
    return _validate(GroupingSettings, {"preset": name, **overrides}, "grouping")


def _with_grouping(content: dict[str, Any], settings: Settings, variant: str, origin: str) -> Settings:
    """Puts what a named variant changes into `content["grouping"]`, in place."""
    if variant not in settings.groupings:
        raise InputError(
            f"{origin}: no grouping named {variant!r}; add it to 'groupings', or choose one of: {', '.join(settings.groupings)}"
        )
    changes = {f"grouping.{key}": value for key, value in settings.groupings[variant].items()}
    return _overridden(content, changes, f"{origin}: groupings.{variant}")


def _overridden(content: dict[str, Any], overrides: dict[str, Any], origin: str) -> Settings:
    """Puts the dotted `overrides` into `content`, in place, and validates the whole."""
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        target = content
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"{origin}: {dotted!r} does not name a setting")
        target[key] = value
    return _validate(Settings, content, origin)


def with_changes(section: Any, changes: dict[str, Any], origin: str) -> Any:
    """A settings section with some values changed; InputError, beginning with `origin`, for a value that is
    out of range.
    """
    return _validate(type(section), section.model_dump() | changes, origin)


def _validate(model: type[Section], content: Any, origin: str, prefix: str = "") -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors = [(_key(found["loc"], prefix), found) for found in error.errors()]
        key, first = errors[0]
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"{origin}: unknown setting {key!r}; see hgrl/core/settings.py for the known ones"
            ) from None
        # several: a setting of several types
        reasons = " or ".join(found["msg"].lower() for other, found in errors if other == key)
        # what is wrong with a section as a whole names no setting
        where = f"{origin}: setting {key!r}" if key else origin
        raise InputError(f"{where}: {reasons} (got {first['input']!r})") from None


def _key(location: tuple[int | str, ...], prefix: str) -> str:
    """The dotted name of a setting, without the names pydantic gives to the types of a union."""
    parts = [
        str(part) for part in location if not str(part).startswith(("literal[", "constrained-", "function-"))
    ]
    return (prefix + ".".join(parts)).rstrip(".")
