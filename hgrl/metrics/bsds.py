"""The BSDS500 benchmark: scores of an image and of a data set (ODS, OIS, AP, best), and two results compared.

Arbelaez, Maire, Fowlkes and Malik, TPAMI 2011, by the conventions of the authors' MATLAB code
(BSDS500/bench): best F between thresholds by linear interpolation, covering as sums over pixels, PRI and VI
as means over images. Score images by `score_ucm`, `gather` them, then take `benchmark_figures` and
`paired_bootstrap`. On files and in several processes: `hgrl.grouping.bsds_benchmark`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from hgrl.core.errors import InputError
from hgrl.metrics import bootstrap
from hgrl.metrics.boundaries import BoundaryCounts, Maps, Pair, boundary_counts
from hgrl.metrics.regions import Hierarchy, RegionCounts, hierarchy_counts, ucm_hierarchy

Difference = tuple[float, float, float]  # and its interval's ends
STEPS = 100  # points between two thresholds at which the best F is looked for: MATLAB's linspace(0, 1)


class ImageScore(NamedTuple):
    """One image's counts at each threshold; regions is None for edge maps, which have none."""

    boundaries: BoundaryCounts
    regions: RegionCounts | None


@dataclass(frozen=True)
class BenchmarkCounts:
    """The counts of N images at T thresholds: arrays are (N, T), `regions.covered_best` (N,)."""

    names: tuple[str, ...]
    thresholds: np.ndarray  # (T,) float64
    boundaries: BoundaryCounts
    regions: RegionCounts | None

    def __len__(self) -> int:
        return len(self.names)

    def require_regions(self) -> RegionCounts:
        if self.regions is None:
            raise InputError("edge maps have no regions: covering, PRI and VI need contour maps or trees")
        return self.regions


def score_image(
    strength: np.ndarray, hierarchy: Hierarchy | None, boundaries: Maps, truths: Maps, thresholds: np.ndarray
) -> ImageScore:
    """The score of contours (H, W) in [0, 1] and the partitions that they bound.

    hierarchy: None for an edge map, which must be soft and with non-maxima suppressed. boundaries, truths:
    the annotators' boundary maps, boolean (H, W), and segmentations, integers from 1."""
    regions = None if hierarchy is None else hierarchy_counts(hierarchy, truths)
    return ImageScore(boundary_counts(strength, boundaries, thresholds), regions)


def score_ucm(ucm2: np.ndarray, boundaries: Maps, truths: Maps, thresholds: np.ndarray) -> ImageScore:
    """`score_image` of an ultrametric contour map of double size, (2H+1, 2W+1) in [0, 1]."""
    hierarchy = ucm_hierarchy(ucm2, thresholds)
    return score_image(ucm2[2::2, 2::2], hierarchy, boundaries, truths, thresholds)


def gather(names: Sequence[str], thresholds: np.ndarray, scores: Sequence[ImageScore]) -> BenchmarkCounts:
    """The counts of a data set. InputError for no image, and for scores with and without regions together."""
    if not scores:
        raise InputError("no image was scored: nothing to gather")
    if len({score.regions is None for score in scores}) > 1:
        raise InputError("some images have regions and others have not: score results of one kind")
    boundaries, regions = zip(*scores, strict=True)
    boundaries = BoundaryCounts(*map(np.array, zip(*boundaries, strict=True)))
    regions = None if regions[0] is None else RegionCounts(*map(np.array, zip(*regions, strict=True)))
    return BenchmarkCounts(tuple(names), np.asarray(thresholds, float), boundaries, regions)


# --- the figures: each takes weights (D, N), how often an image is drawn, and gives (D, ...).
# One row of ones is the benchmark; draws with replacement are its bootstrap.


def f_measure(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Harmonic mean; 0 where both are 0."""
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def precision_recall(counts: BenchmarkCounts, weights: np.ndarray | None = None) -> Pair:
    """(recall, precision), each (T,), of all images together; (D, T) with weights."""
    return _fractions(*(n.sum(0) if weights is None else weights @ n for n in counts.boundaries))


def image_best(counts: BenchmarkCounts) -> np.ndarray:
    """(N, 4): each image's best threshold, interpolated, and recall, precision, F there (eval_bdry_img)."""
    return _best_f(counts.thresholds, *_fractions(*counts.boundaries))


def image_covering(counts: BenchmarkCounts) -> np.ndarray:
    """(N, 3): each image's best threshold, the covering there, and the regions' by the segments."""
    regions = counts.require_regions()
    best = regions.covered.argmax(1)
    at = np.arange(len(counts)), best
    of_regions = regions.covered_found[at] / np.maximum(regions.found[at], 1)
    return np.stack([counts.thresholds[best], regions.covered[at] / regions.truth[at], of_regions], axis=1)


def _fractions(matched_truth: Any, truth: Any, matched_found: Any, found: Any) -> tuple[Any, Any]:
    """(recall, precision) of counts."""
    return matched_truth / np.maximum(truth, 1), matched_found / np.maximum(found, 1)


def _ods(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D, 4): the best common threshold, and recall, precision and F there."""
    return _best_f(counts.thresholds, *precision_recall(counts, weights))


def _ois(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D, 3): recall, precision and F of the images each at its best threshold."""
    best = np.arange(len(counts)), f_measure(*_fractions(*counts.boundaries)).argmax(1)
    recall, precision = _fractions(*(weights @ n[best] for n in counts.boundaries))
    return np.stack([recall, precision, f_measure(recall, precision)], axis=1)


def _average_precision(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D,): the area under the precision-recall curve, read at recalls 0, .01 .. 1; 0 outside the curve."""
    at, areas = np.arange(101) * 0.01, []
    for recall, precision in zip(*precision_recall(counts, weights), strict=True):
        recall, first = np.unique(recall, return_index=True)
        area = np.interp(at, recall, precision[first], left=0, right=0).sum() * 0.01
        areas.append(area if len(recall) > 1 else 0.0)
    return np.array(areas)


def _covering(counts: BenchmarkCounts, weights: np.ndarray, which: str) -> np.ndarray:
    """(D,) at each image's own threshold ("ois"), by the best regions of all ("best"); (D, T) for "ods"."""
    regions = counts.require_regions()
    if which == "ods":
        return weights @ regions.covered / (weights @ regions.truth)
    covered = regions.covered.max(1) if which == "ois" else regions.covered_best
    return weights @ covered / (weights @ regions.truth[:, 0])


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))


FIGURES: dict[str, Callable[[BenchmarkCounts, np.ndarray], np.ndarray]] = {
    "ods": lambda counts, weights: _ods(counts, weights)[:, 3],
    "ois": lambda counts, weights: _ois(counts, weights)[:, 2],
    "ap": _average_precision,
    "covering_ods": lambda counts, weights: _covering(counts, weights, "ods").max(1),
    "covering_ois": lambda counts, weights: _covering(counts, weights, "ois"),
    "covering_best": lambda counts, weights: _covering(counts, weights, "best"),
    "pri_ods": lambda counts, weights: _mean(counts.require_regions().pri, weights).max(1),
    "pri_ois": lambda counts, weights: _mean(counts.require_regions().pri.max(1), weights),
    "vi_ods": lambda counts, weights: _mean(counts.require_regions().vi, weights).min(1),
    "vi_ois": lambda counts, weights: _mean(counts.require_regions().vi.min(1), weights),
}  # every figure that the field reports, by name; VI is better when smaller


@numba.njit(nogil=True, cache=True)
def _best_f(thresholds: np.ndarray, recalls: np.ndarray, precisions: np.ndarray) -> np.ndarray:
    """(D, 4): threshold, recall, precision and F where F is largest, between the thresholds too."""
    best = np.zeros((len(recalls), 4))
    for d in range(len(recalls)):
        for i in range(len(thresholds)):
            for step in range(STEPS):
                part = step / (STEPS - 1)
                before = max(i - 1, 0)
                recall = recalls[d, i] * part + recalls[d, before] * (1 - part)
                precision = precisions[d, i] * part + precisions[d, before] * (1 - part)
                f = 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0
                if f > best[d, 3] or (i == 0 and step == 0):
                    best[d, 0] = thresholds[i] * part + thresholds[before] * (1 - part)
                    best[d, 1], best[d, 2], best[d, 3] = recall, precision, f
                if i == 0:
                    break  # the first threshold by itself
    return best


def benchmark_figures(counts: BenchmarkCounts) -> dict[str, float]:
    """Every figure of `FIGURES` that these counts have, and where ODS is reached, ready for json."""
    once = np.ones((1, len(counts)))
    threshold, recall, precision, _ = _ods(counts, once)[0]
    figures = {"ods_threshold": threshold, "ods_recall": recall, "ods_precision": precision}
    figures["ois_recall"], figures["ois_precision"], _ = _ois(counts, once)[0]
    names = ("ods", "ois", "ap") if counts.regions is None else tuple(FIGURES)
    if counts.regions is not None:
        covering = _covering(counts, once, "ods")[0]
        figures["covering_ods_threshold"] = counts.thresholds[covering.argmax()]
        figures["pri_ods_threshold"] = counts.thresholds[counts.regions.pri.mean(0).argmax()]
        figures["vi_ods_threshold"] = counts.thresholds[counts.regions.vi.mean(0).argmin()]
    figures |= {name: FIGURES[name](counts, once)[0] for name in names}
    return {name: float(value) for name, value in figures.items()}


def figures_text(figures: dict[str, float]) -> str:
    """The figures as the benchmark prints them, with a digit more."""
    f = figures
    ods, ois = (f"F( {f[f'{name}_recall']:.3f}, {f[f'{name}_precision']:.3f} )" for name in ("ods", "ois"))
    lines = ["Boundary", f"ODS: {ods} = {f['ods']:.3f}   [th = {f['ods_threshold']:.2f}]"]
    lines += [f"OIS: {ois} = {f['ois']:.3f}", f"Area_PR = {f['ap']:.3f}"]
    if "covering_ods" in f:
        lines += ["", "Region"]
        for title, name in (("GT covering", "covering"), ("Rand Index", "pri"), ("Var. Info.", "vi")):
            best = f" Best = {f['covering_best']:.3f}." if name == "covering" else ""
            ods, ois, at = (f[f"{name}_{part}"] for part in ("ods", "ois", "ods_threshold"))
            lines.append(f"{title}: ODS = {ods:.3f} [th = {at:.2f}]. OIS = {ois:.3f}.{best}")
    return "\n".join(lines)


def paired_bootstrap(
    counts_a: BenchmarkCounts, counts_b: BenchmarkCounts, figure: str, draws: int = 10_000, seed: int = 0
) -> Difference:
    """(difference, low, high): a figure of a minus that of b, and its 95 % interval over draws of images.

    The same images are drawn for both, with replacement, so what is hard for both cancels. figure: a name of
    `FIGURES`. Raises InputError for another, for one the counts do not have, and for images or an order that
    differ."""
    if figure not in FIGURES:
        raise InputError(f"no figure {figure!r}; choose from {', '.join(FIGURES)}")
    if counts_a.names != counts_b.names:
        raise InputError("the two results are of different images: compare results of the same ones")
    weights = bootstrap.draws(np.random.default_rng(seed), draws, len(counts_a))
    once, value = np.ones((1, len(counts_a))), FIGURES[figure]
    whole, drawn = (value(counts_a, w) - value(counts_b, w) for w in (once, weights))
    return float(whole[0]), *bootstrap.interval(drawn)


def paired_mean(a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0) -> Difference:
    """(difference, low, high) of the mean of one number per image (N,), drawn as in `paired_bootstrap`."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    weights = bootstrap.draws(np.random.default_rng(seed), draws, len(difference))
    return float(difference.mean()), *bootstrap.interval(weights @ difference / len(difference))


def official_tables(folder: Path) -> dict[str, np.ndarray]:
    """The text files of a MATLAB run, by name without ending.

    eval_bdry_img, (N, 5), is the image's number and `image_best`, eval_cover_img, (N, 4), its number and
    `image_covering`, in the order of the sorted names. InputError when neither is there, and for a file that
    is no table of numbers."""
    tables = {}
    for path in sorted(Path(folder).glob("eval_*.txt")):
        try:
            tables[path.stem] = np.loadtxt(path, ndmin=2)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a table of numbers ({reason}); fetch it again") from error
    if not tables.keys() & {"eval_bdry_img", "eval_cover_img"}:
        raise InputError(
            f"{folder}: no eval_bdry_img.txt or eval_cover_img.txt; give the MATLAB run's folder"
        )
    return tables
