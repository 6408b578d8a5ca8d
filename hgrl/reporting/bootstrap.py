"""Paired bootstrap over images and seeds, of sums and differences of runs' mIoU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student

from hgrl.core.errors import InputError
from hgrl.metrics.bootstrap import draws
from hgrl.metrics.segmentation import iou_per_class


@dataclass(frozen=True)
class Probed:
    """A run's probe, all its predictions."""

    confusions: np.ndarray  # (S, N, C, C) counts: S seeds, N images; row = truth, column = prediction
    split: str  # which images: runs with the same text are resampled together
    seeds: tuple[int, ...] = ()  # whose each of the S is; runs without pair by their order


Contrast = Sequence[tuple[float, Probed]]  # a weighted sum of runs: +1 ours, -1 theirs


POWER = 0.8  # the chance at which a difference counts as one that could have been seen


def paired(runs: Sequence[Probed]) -> list[Probed]:
    """The runs with the seeds that all of them have; InputError where they share none."""
    common = sorted(set.intersection(*({*run.seeds} for run in runs)))
    if not common:
        raise InputError("compared runs share no seed: see `seeds` and `more_seeds` of the profile")
    chosen = [[run.seeds.index(seed) for seed in common] for run in runs]
    return [
        replace(run, confusions=run.confusions[places], seeds=tuple(common))
        for run, places in zip(runs, chosen, strict=True)
    ]


def mious(confusions: np.ndarray) -> np.ndarray:
    """`hgrl.metrics.segmentation.miou` of every matrix in (..., C, C); nan where nothing was scored."""
    ious = iou_per_class(confusions)
    with np.errstate(invalid="ignore"):
        return np.nansum(ious, -1) / (~np.isnan(ious)).sum(-1)


def by_seed(contrast: Contrast) -> np.ndarray:
    """The contrast over all images per seed, (S,): seed k of every run with seed k of the others."""
    _require_pairs(contrast)
    return sum(weight * mious(run.confusions.sum(1)) for weight, run in contrast)


def replicates(contrast: Contrast, count: int, seed: int) -> np.ndarray:
    """`count` bootstrap values of the contrast's mean over the seeds, (count,) float64.

    Each replicate draws a split's images with replacement, the same ones for all runs on it, and takes the
    mIoU of their summed confusion matrices; it draws the seeds likewise, and takes the mean over them. The
    draws depend on `seed` and the sizes alone."""
    _require_pairs(contrast)
    random, drawn = np.random.default_rng(seed), {}
    seeds = draws(random, count, len(contrast[0][1].confusions))  # (count, S)
    total = np.zeros(count)
    for weight, run in contrast:
        seed_count, n, c, _ = run.confusions.shape
        if run.split not in drawn:
            drawn[run.split] = draws(random, count, n)
        scores = np.zeros(count)
        for k, images in enumerate(run.confusions):
            summed = drawn[run.split] @ images.reshape(n, c * c).astype(np.float64)  # exact below 2**53
            scores += seeds[:, k] / seed_count * mious(summed.reshape(count, c, c))
        total += weight * scores  # at once: equal runs cancel to exactly 0
    return total


def seeds_interval(values: np.ndarray) -> tuple[float, float] | None:
    """Student's 95 % t interval of the mean of values (S,), too few to resample; None for one seed."""
    if len(values) < 2:
        return None
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def detectable(deviation: float) -> float:
    """The smallest true difference whose 95 % interval leaves out 0 in `POWER` of the cases.

    deviation: of the estimate, which is taken to be normal. Differences from another limit than 0 alike."""
    return float((norm.ppf(0.975) + norm.ppf(POWER)) * deviation)


def detectable_by_seeds(values: np.ndarray) -> float | None:
    """As `detectable`, for `seeds_interval` of paired differences (S,); None for one seed.

    Exact for normal differences with the deviation that these have: by the noncentral t distribution."""
    if len(values) < 2:
        return None
    freedom, error = len(values) - 1, values.std(ddof=1) / np.sqrt(len(values))
    limit = student.ppf(0.975, freedom)
    # the other tail, an interval wholly on the wrong side, is left out: below 1e-3 at this power
    shift = brentq(lambda shift: nct.sf(limit, freedom, shift) - POWER, 0, 2 * limit + 2)
    return float(error * shift)


def _require_pairs(contrast: Contrast) -> None:
    sizes = {len(run.confusions) for _, run in contrast}
    images = {(run.split, run.confusions.shape[1]) for _, run in contrast}
    if len(sizes) > 1 or len(images) > len({split for split, _ in images}):
        unequal = "compared runs have different numbers of seeds, or of images of one split"
        raise InputError(f"{unequal}: probe them again with `dvc repro`")
