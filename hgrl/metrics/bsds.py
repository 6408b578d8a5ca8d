"""The BSDS500 benchmark: scores of one image, of a data set (ODS, OIS, AP, best), its tables, and comparisons
of two results.

Arbelaez, Maire, Fowlkes and Malik, TPAMI 2011, and the authors' MATLAB code (BSDS500/bench), whose
conventions are kept: best F between thresholds by linear interpolation, covering as sums over pixels, PRI and
VI as means over images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from hgrl.core.errors import InputError
from hgrl.metrics.boundaries import BoundaryCounts, boundary_counts, count_boundaries
from hgrl.metrics.outlines import boundary_map
from hgrl.metrics.regions import Hierarchy, RegionCounts, hierarchy_counts, region_counts, ucm_hierarchy

STEPS = 100  # points between two thresholds at which the best F is looked for: MATLAB's linspace(0, 1)


class ImageScore(NamedTuple):
    """One image's counts at each threshold; regions is None for edge maps, which have none."""

    boundaries: BoundaryCounts
    regions: RegionCounts | None


@dataclass(frozen=True)
class BenchmarkCounts:
    """The counts of N images at T thresholds: each array of `boundaries` and `regions` is (N, T),
    `regions.covered_best` (N,).
    """

    names: tuple[str, ...]
    thresholds: np.ndarray  # (T,) float64
    boundaries: BoundaryCounts
    regions: RegionCounts | None

    def __len__(self) -> int:
        return len(self.names)

    def scores(self) -> list[ImageScore]:
        """Of each image; what `gather` was given."""
        return [
            ImageScore(_row(self.boundaries, k), self.regions and _row(self.regions, k))
            for k in range(len(self))
        ]


def _row(fields: BoundaryCounts | RegionCounts, k: int) -> BoundaryCounts | RegionCounts:
    return type(fields)(*(field[k] for field in fields))


def score_edges(edge_map: np.ndarray, boundaries: Sequence[np.ndarray], thresholds: np.ndarray) -> ImageScore:
    """Of an edge map (H, W) in [0, 1], soft and with non-maxima suppressed, against human boundary maps,
    boolean (H, W).
    """
    return ImageScore(boundary_counts(edge_map, boundaries, thresholds), None)


def score_hierarchy(
    strength: np.ndarray,
    hierarchy: Hierarchy,
    boundaries: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    thresholds: np.ndarray,
) -> ImageScore:
    """Of contours (H, W) in [0, 1] and the partitions that they bound; truths: human segmentations (H, W),
    labels from 1.
    """
    return ImageScore(boundary_counts(strength, boundaries, thresholds), hierarchy_counts(hierarchy, truths))


def score_ucm(
    ucm2: np.ndarray, boundaries: Sequence[np.ndarray], truths: Sequence[np.ndarray], thresholds: np.ndarray
) -> ImageScore:
    """Of an ultrametric contour map of double size, (2H+1, 2W+1) in [0, 1]. Raises InputError for an even
    size.
    """
    hierarchy = ucm_hierarchy(ucm2, thresholds)
    return score_hierarchy(ucm2[2::2, 2::2], hierarchy, boundaries, truths, thresholds)


def score_segmentations(
    partitions: Sequence[np.ndarray], boundaries: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> ImageScore:
    """Of separate segmentations (H, W) with labels from 1: the "thresholds" are 1, 2, ... (the authors'
    `segs`).
    """
    return ImageScore(
        count_boundaries((boundary_map(labels) for labels in partitions), boundaries),
        region_counts(partitions, truths),
    )


def gather(names: Sequence[str], thresholds: np.ndarray, scores: Sequence[ImageScore]) -> BenchmarkCounts:
    """The counts of a data set. Raises InputError for no image, and for scores with and without regions
    together.
    """
    if not scores:
        raise InputError("no image was scored: nothing to gather")
    with_regions = {score.regions is not None for score in scores}
    if len(with_regions) > 1:
        raise InputError("some images have regions and others have not: score results of one kind")
    regions = (
        RegionCounts(*map(np.array, zip(*(score.regions for score in scores))))
        if with_regions == {True}
        else None
    )
    boundaries = BoundaryCounts(*map(np.array, zip(*(score.boundaries for score in scores))))
    return BenchmarkCounts(tuple(names), np.asarray(thresholds, float), boundaries, regions)


# --- the figures
# ------------------------------------------------------------------------------------------------------------
# Each takes weights (D, N), how often an image is drawn, and gives (D, ...): one row of ones is the
# benchmark, and draws with
# replacement are its bootstrap.


def f_measure(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Harmonic mean; 0 where both are 0."""
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def precision_recall(
    counts: BenchmarkCounts, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision), each (T,), of all images together; (D, T) with weights."""
    matched_truth, truth, matched_found, found = (_weighted(count, weights) for count in counts.boundaries)
    return matched_truth / np.maximum(truth, 1), matched_found / np.maximum(found, 1)


def _weighted(count: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    return count.sum(0) if weights is None else weights @ count


def image_best(counts: BenchmarkCounts) -> np.ndarray:
    """(N, 4): each image's best threshold, recall, precision and F, thresholds interpolated (the benchmark's
    eval_bdry_img).
    """
    matched_truth, truth, matched_found, found = counts.boundaries
    return _best_f(
        counts.thresholds, matched_truth / np.maximum(truth, 1), matched_found / np.maximum(found, 1)
    )


def image_covering(counts: BenchmarkCounts) -> np.ndarray:
    """(N, 3): each image's best threshold, its covering there, and the covering of the regions by the
    segments (eval_cover_img).
    """
    regions = _regions(counts)
    best = regions.covered.argmax(1)
    at = np.arange(len(counts)), best
    covering, of_regions = (
        regions.covered[at] / regions.truth[at],
        regions.covered_found[at] / np.maximum(regions.found[at], 1),
    )
    return np.stack([counts.thresholds[best], covering, of_regions], axis=1)


def _ods(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D, 4): the best common threshold, and recall, precision and F there."""
    return _best_f(counts.thresholds, *precision_recall(counts, weights))


def _ois(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D, 3): recall, precision and F of the images each at its best threshold."""
    matched_truth, truth, matched_found, found = counts.boundaries
    f = f_measure(matched_truth / np.maximum(truth, 1), matched_found / np.maximum(found, 1))
    best = np.arange(len(counts)), f.argmax(1)
    recall = weights @ matched_truth[best] / np.maximum(weights @ truth[best], 1)
    precision = weights @ matched_found[best] / np.maximum(weights @ found[best], 1)
    return np.stack([recall, precision, f_measure(recall, precision)], axis=1)


def _average_precision(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    """(D,): the area under the precision-recall curve, read at recalls 0, .01 .. 1; 0 outside the curve."""
    recalls, precisions = precision_recall(counts, weights)
    return np.array([_area(recall, precision) for recall, precision in zip(recalls, precisions)])


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    recall, first = np.unique(recall, return_index=True)
    if len(recall) < 2:
        return 0.0
    return float(np.interp(np.arange(101) * 0.01, recall, precision[first], left=0, right=0).sum() * 0.01)


def _covering_curve(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    regions = _regions(counts)
    return weights @ regions.covered / (weights @ regions.truth)


def _covering_ois(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    regions = _regions(counts)
    return weights @ regions.covered.max(1) / (weights @ regions.truth[:, 0])


def _covering_best(counts: BenchmarkCounts, weights: np.ndarray) -> np.ndarray:
    regions = _regions(counts)
    return weights @ regions.covered_best / (weights @ regions.truth[:, 0])


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))


FIGURES: dict[str, Callable[[BenchmarkCounts, np.ndarray], np.ndarray]] = {
    "ods": lambda counts, weights: _ods(counts, weights)[:, 3],
    "ois": lambda counts, weights: _ois(counts, weights)[:, 2],
    "ap": _average_precision,
    "covering_ods": lambda counts, weights: _covering_curve(counts, weights).max(1),
    "covering_ois": _covering_ois,
    "covering_best": _covering_best,
    "pri_ods": lambda counts, weights: _mean(_regions(counts).pri, weights).max(1),
    "pri_ois": lambda counts, weights: _mean(_regions(counts).pri.max(1), weights),
    "vi_ods": lambda counts, weights: _mean(_regions(counts).vi, weights).min(1),
    "vi_ois": lambda counts, weights: _mean(_regions(counts).vi.min(1), weights),
}  # every figure that the field reports, by name; VI is better when smaller
BOUNDARY_FIGURES = ("ods", "ois", "ap")


def _regions(counts: BenchmarkCounts) -> RegionCounts:
    if counts.regions is None:
        raise InputError("edge maps have no regions: covering, PRI and VI need contour maps or region trees")
    return counts.regions


@numba.njit(nogil=True, cache=True)
def _best_f(thresholds: np.ndarray, recalls: np.ndarray, precisions: np.ndarray) -> np.ndarray:
    """(D, 4): threshold, recall, precision and F where F is largest, along straight lines between
    neighbouring thresholds.
    """
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
    """Every figure of `FIGURES` that these counts have, and where the ODS ones are reached, ready for json."""
    once = np.ones((1, len(counts)))
    threshold, recall, precision, _ = _ods(counts, once)[0]
    figures = {"ods_threshold": threshold, "ods_recall": recall, "ods_precision": precision}
    figures |= {"ois_recall": _ois(counts, once)[0, 0], "ois_precision": _ois(counts, once)[0, 1]}
    if counts.regions is not None:
        figures["covering_ods_threshold"] = counts.thresholds[_covering_curve(counts, once)[0].argmax()]
        figures["pri_ods_threshold"] = counts.thresholds[counts.regions.pri.mean(0).argmax()]
        figures["vi_ods_threshold"] = counts.thresholds[counts.regions.vi.mean(0).argmin()]
    names = FIGURES if counts.regions is not None else BOUNDARY_FIGURES
    return {
        name: float(value)
        for name, value in {**figures, **{name: FIGURES[name](counts, once)[0] for name in names}}.items()
    }


def evaluation_tables(counts: BenchmarkCounts) -> dict[str, np.ndarray]:
    """The numbers of the MATLAB benchmark's text files, by file name without ending, in its columns
    (eval_bdry, eval_bdry_img, ...).
    """
    found, number = benchmark_figures(counts), np.arange(1, len(counts) + 1)
    recall, precision = precision_recall(counts)
    best = ("ods_threshold", "ods_recall", "ods_precision", "ods", "ois_recall", "ois_precision", "ois", "ap")
    tables = {
        "eval_bdry": np.array([[found[name] for name in best]]),
        "eval_bdry_img": np.column_stack([number, image_best(counts)]),
        "eval_bdry_thr": np.column_stack(
            [counts.thresholds, recall, precision, f_measure(recall, precision)]
        ),
    }
    if counts.regions is None:
        return tables
    once, regions = np.ones((1, len(counts))), counts.regions
    cover = ("covering_ods_threshold", "covering_ods", "covering_ois", "covering_best")
    pairs = ("pri_ods_threshold", "pri_ods", "pri_ois", "vi_ods_threshold", "vi_ods", "vi_ois")
    return {
        **tables,
        "eval_cover": np.array([[found[name] for name in cover]]),
        "eval_cover_img": np.column_stack([number, image_covering(counts)]),
        "eval_cover_th": np.column_stack([counts.thresholds, _covering_curve(counts, once)[0]]),
        "eval_RI_VOI": np.array([[found[name] for name in pairs]]),
        "eval_RI_VOI_thr": np.column_stack([counts.thresholds, regions.pri.mean(0), regions.vi.mean(0)]),
    }


def figures_text(figures: dict[str, float]) -> str:
    """The figures as the benchmark prints them, with a digit more."""
    f = figures
    lines = [
        "Boundary",
        f"ODS: F( {f['ods_recall']:.3f}, {f['ods_precision']:.3f} ) = {f['ods']:.3f}   [th = {f['ods_threshold']:.2f}]",
        f"OIS: F( {f['ois_recall']:.3f}, {f['ois_precision']:.3f} ) = {f['ois']:.3f}",
        f"Area_PR = {f['ap']:.3f}",
    ]
    if "covering_ods" not in f:
        return "\n".join(lines)
    lines += ["", "Region"]
    for title, name in (("GT covering", "covering"), ("Rand Index", "pri"), ("Var. Info.", "vi")):
        best = f" Best = {f['covering_best']:.3f}." if name == "covering" else ""
        lines.append(
            f"{title}: ODS = {f[f'{name}_ods']:.3f} [th = {f[f'{name}_ods_threshold']:.2f}]. OIS = {f[f'{name}_ois']:.3f}.{best}"
        )
    return "\n".join(lines)


# --- comparisons
# ------------------------------------------------------------------------------------------------------------


def paired_bootstrap(
    counts_a: BenchmarkCounts, counts_b: BenchmarkCounts, figure: str, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """(difference, low, high): a figure of a minus that of b, and the 95 % interval over draws of images with
    replacement.

    The same images are drawn for both, so what is hard for both cancels. figure: a name of `FIGURES`; the
    percentiles are 2.5 and 97.5.
    Raises InputError for an unknown figure, one the counts do not have, and for other images, or another
    order of them, in b.
    """
    if figure not in FIGURES:
        raise InputError(f"no figure {figure!r}; choose from {', '.join(FIGURES)}")
    if counts_a.names != counts_b.names:
        raise InputError(
            "the two results are of different images: score both on the same ones to compare them in pairs"
        )
    weights = _draws(len(counts_a), draws, seed)
    return _interval(
        *(
            FIGURES[figure](counts_a, w) - FIGURES[figure](counts_b, w)
            for w in (np.ones((1, len(counts_a))), weights)
        )
    )


def paired_mean(
    values_a: np.ndarray, values_b: np.ndarray, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """(difference, low, high) of the mean of one number an image (N,), drawn as in `paired_bootstrap`. For
    scores without counts.
    """
    difference = np.asarray(values_a, float) - np.asarray(values_b, float)
    return _interval(
        difference.mean()[None], _draws(len(difference), draws, seed) @ difference / len(difference)
    )


def _draws(images: int, draws: int, seed: int) -> np.ndarray:
    """(draws, images) float64: how often each image is drawn."""
    return (
        np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws).astype(float)
    )


def _interval(whole: np.ndarray, drawn: np.ndarray) -> tuple[float, float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(whole[0]), float(low), float(high)


@dataclass(frozen=True)
class OfficialScores:
    """What the MATLAB benchmark keeps of each image: its best point, not its counts. Images in the order of
    their sorted names.
    """

    best: np.ndarray  # (N, 4): threshold, recall, precision, F; as `image_best`
    # (N, 3): threshold, covering, covering of the regions by the segments; as `image_covering`
    covering: np.ndarray | None
    tables: dict[str, np.ndarray]  # all files, as `evaluation_tables`


def official_scores(folder: Path) -> OfficialScores:
    """Read the text files of a MATLAB run (eval_bdry_img.txt ...). Raises InputError when they are missing or
    no tables of numbers.
    """
    tables = {path.stem: _table(path) for path in sorted(Path(folder).glob("eval_*.txt"))}
    if "eval_bdry_img" not in tables and "eval_cover_img" not in tables:
        raise InputError(
            f"{folder}: no eval_bdry_img.txt or eval_cover_img.txt; give a folder that the MATLAB benchmark wrote"
        )
    best, covering = tables.get("eval_bdry_img"), tables.get("eval_cover_img")
    return OfficialScores(
        None if best is None else best[:, 1:], None if covering is None else covering[:, 1:], tables
    )


def _table(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError(
            f"{path}: not a table of numbers ({' '.join(str(error).split())}); fetch it again"
        ) from error
