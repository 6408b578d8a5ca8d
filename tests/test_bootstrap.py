"""The paired bootstrap against slow loops, by hand, and on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from hgrl.core.errors import InputError
from hgrl.metrics.bootstrap import interval
from hgrl.metrics.segmentation import miou
from hgrl.reporting.bootstrap import (
    Probed,
    by_seed,
    detectable,
    detectable_by_seeds,
    mious,
    paired,
    replicates,
    seeds_interval,
)


def random_matrices(random, seeds=3, images=5, classes=4, split="val"):
    """Counts with classes that occur in few images, so that some replicates lack them."""
    counts = random.integers(0, 9, (seeds, images, classes, classes))
    rare = random.random((1, images, classes)) < 0.4
    return Probed(counts * ~(rare[..., None] | rare[:, :, None]), split)


def test_miou_of_many_matrices_is_that_of_each():
    random = np.random.default_rng(0)
    matrices = random.integers(0, 3, (200, 3, 3)) * (random.random((200, 3, 3)) < 0.4)
    assert (matrices.sum((1, 2)) == 0).any()
    np.testing.assert_allclose(mious(matrices), [miou(matrix) for matrix in matrices])
    np.testing.assert_allclose(mious(matrices.reshape(2, 100, 3, 3)), mious(matrices).reshape(2, 100))


def slow_replicates(contrast, count, seed):
    """Image by image and seed by seed, from the same draws."""
    random = np.random.default_rng(seed)
    seeds = len(contrast[0][1].confusions)
    seed_draws = random.multinomial(seeds, np.full(seeds, 1 / seeds), count)
    image_draws = {}
    for _, run in contrast:
        images = run.confusions.shape[1]
        if run.split not in image_draws:
            image_draws[run.split] = random.multinomial(images, np.full(images, 1 / images), count)
    values = []
    for r in range(count):
        value = 0
        for weight, run in contrast:
            drawn = [k for k, times in enumerate(seed_draws[r]) for _ in range(times)]
            scores = []
            for k in drawn:
                total = np.zeros(run.confusions.shape[2:], int)
                for image, times in enumerate(image_draws[run.split][r]):
                    for _ in range(times):
                        total += run.confusions[k, image]
                scores.append(miou(total))
            value += weight * np.mean(scores)
        values.append(value)
    return values


def test_replicates_are_those_of_the_slow_loop():
    random = np.random.default_rng(1)
    ours, theirs = random_matrices(random), random_matrices(random)
    elsewhere = random_matrices(random, images=7, classes=3, split="another")
    for contrast in (
        [(1.0, ours)],
        [(1.0, ours), (-1.0, theirs)],
        [(1.0, ours), (-1.0, theirs), (-1.0, elsewhere), (1.0, elsewhere)],
    ):
        np.testing.assert_allclose(replicates(contrast, 30, 5), slow_replicates(contrast, 30, 5), atol=1e-12)


def test_a_run_against_itself_differs_by_nothing():
    run = random_matrices(np.random.default_rng(2))
    assert not np.any(replicates([(1.0, run), (-1.0, run)], 50, 0))


def test_draws_are_the_same_for_the_same_seed_and_other_for_another():
    run = [(1.0, random_matrices(np.random.default_rng(3)))]
    assert (replicates(run, 20, 0) == replicates(run, 20, 0)).all()
    assert (replicates(run, 20, 0) != replicates(run, 20, 1)).any()


def constant(*shares, images=4):
    """Each seed's mIoU is its share in every image: two classes, of each the same share right (share / (2 -
    share) is the IoU).
    """
    right = np.array([round(1000 * 2 * share / (1 + share)) for share in shares])
    matrices = np.zeros((len(shares), images, 2, 2), int)
    matrices[:, :, 0, 0] = matrices[:, :, 1, 1] = right[:, None]
    matrices[:, :, 0, 1] = matrices[:, :, 1, 0] = 1000 - right[:, None]
    return Probed(matrices, "val")


def test_differences_by_seed_by_hand():
    ours, theirs = constant(0.6, 0.25), constant(1.0, 0.0)
    np.testing.assert_allclose(by_seed([(1.0, ours)]), [0.6, 0.25], atol=1e-3)
    np.testing.assert_allclose(by_seed([(1.0, ours), (-1.0, theirs)]), [-0.4, 0.25], atol=1e-3)


def test_with_three_seeds_that_alone_differ_the_interval_is_their_range():
    """Which a draw of one seed thrice, 1 in 27 for each, reaches: the interval holds the median of such seeds
    in 3 of 4 cases.
    """
    run = constant(0.2, 0.3, 0.6)
    np.testing.assert_allclose(
        interval(replicates([(1.0, run)], 2000, 0)),
        [by_seed([(1.0, run)]).min(), by_seed([(1.0, run)]).max()],
    )


def test_the_seeds_interval_by_hand():
    """Three values 1, 2, 3: mean 2, deviation 1, t of 2 degrees of freedom 4.3027."""
    assert seeds_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(
        (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4
    )
    assert seeds_interval(np.array([1.0])) is None


def test_over_images_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Two runs whose images are right with known chances; seeds see the same. The truth is the mIoU of the
    expected matrices.
    """
    random, covered, trials = np.random.default_rng(4), 0, 200
    chances = {"ours": np.array([0.9, 0.6]), "theirs": np.array([0.8, 0.6])}

    def drawn(chance, pixels, ease):
        right = random.binomial(pixels, np.clip(chance + ease, 0, 1))  # (N, 2)
        matrices = np.zeros((*right.shape[:1], 2, 2), int)
        matrices[:, [0, 1], [0, 1]], matrices[:, [0, 1], [1, 0]] = right, pixels - right
        return Probed(matrices[None], "val")

    def expected(chance):
        return miou(
            np.array([[60 * chance[0], 60 * (1 - chance[0])], [40 * (1 - chance[1]), 40 * chance[1]]])
        )

    truth = expected(chances["ours"]) - expected(chances["theirs"])
    for trial in range(trials):
        # easy images are easy for both
        pixels, ease = random.multinomial(100, [0.6, 0.4], 40), random.uniform(-0.1, 0.1, (40, 1))
        contrast = [
            (sign, drawn(chances[name], pixels, ease)) for sign, name in ((1.0, "ours"), (-1.0, "theirs"))
        ]
        low, high = interval(replicates(contrast, 300, trial))
        covered += low <= truth <= high
    assert 0.89 <= covered / trials <= 0.99


def test_runs_that_cannot_be_paired_are_refused():
    random = np.random.default_rng(5)
    run = random_matrices(random)
    for other in (random_matrices(random, seeds=2), random_matrices(random, images=6)):
        with pytest.raises(InputError, match="different numbers of seeds, or of images"):
            replicates([(1.0, run), (-1.0, other)], 5, 0)
    assert len(replicates([(1.0, run), (-1.0, random_matrices(random, images=6, split="other"))], 5, 0)) == 5


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_a_detectable_difference_is_seen_in_four_of_five_repetitions(seeds):
    random = np.random.default_rng(seeds)
    values = random.normal(size=seeds)
    smallest = detectable_by_seeds(values) / values.std(ddof=1)  # of differences with a deviation of 1
    samples = smallest + random.normal(size=(20_000, seeds))
    half = student.ppf(0.975, seeds - 1) * samples.std(1, ddof=1) / np.sqrt(seeds)
    assert (samples.mean(1) - half > 0).mean() == pytest.approx(0.8, abs=0.01)
    estimates = detectable(0.5) + 0.5 * random.normal(size=20_000)
    assert (estimates > 1.959964 * 0.5).mean() == pytest.approx(0.8, abs=0.01)


def test_what_is_detectable_is_the_closed_form_where_it_has_one():
    assert detectable(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    values = np.random.default_rng(0).normal(size=4000)
    error = values.std(ddof=1) / np.sqrt(4000)
    assert detectable_by_seeds(values) == pytest.approx((1.959964 + 0.841621) * error, rel=1e-3)
    # one degree of freedom: Student's limit times the .8 quantile of the deviation, which is that of |normal|
    assert detectable_by_seeds(np.array([0.0, 2.0])) == pytest.approx(12.7062 * 1.28155, rel=0.02)
    assert detectable_by_seeds(np.array([1.0])) is None and detectable_by_seeds(np.array([1.0, 1.0])) == 0


def test_runs_are_compared_over_the_seeds_that_all_have():
    random = np.random.default_rng(4)
    many, few = random_matrices(random, seeds=5), random_matrices(random, seeds=3)
    many, few = replace(many, seeds=(0, 1, 2, 3, 4)), replace(few, seeds=(4, 0, 2))
    ours, theirs = paired([many, few])
    assert ours.seeds == theirs.seeds == (0, 2, 4)
    np.testing.assert_array_equal(ours.confusions, many.confusions[[0, 2, 4]])
    np.testing.assert_array_equal(theirs.confusions, few.confusions[[1, 2, 0]])
    with pytest.raises(InputError, match="share no seed"):
        paired([replace(many, seeds=(5, 6, 7, 8, 9)), few])
