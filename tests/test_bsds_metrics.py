"""The BSDS500 benchmark's figures: hand-worked curves, slow loops, and the authors' own fixture."""

import numpy as np
import pytest
from regions import region_counts
from scipy.io import loadmat

from hgrl.core.errors import InputError
from hgrl.data.sets.bsds import load_ucm2
from hgrl.grouping.bsds_benchmark import load_edges
from hgrl.metrics import bsds
from hgrl.metrics.boundaries import BoundaryCounts, benchmark_thresholds, boundary_counts
from hgrl.metrics.bsds import FIGURES, BenchmarkCounts, ImageScore, benchmark_figures, paired_bootstrap
from hgrl.metrics.regions import RegionCounts
from hgrl.metrics.video import boundary_map


def boundary_only(matched_truth, truth, matched_found, found, thresholds=None):
    fields = BoundaryCounts(*(np.array(field) for field in (matched_truth, truth, matched_found, found)))
    images, count = fields.truth.shape
    return BenchmarkCounts(
        tuple(map(str, range(images))),
        benchmark_thresholds(count) if thresholds is None else thresholds,
        fields,
        None,
    )


def random_counts(seed, images=7, thresholds=5):
    generator = np.random.default_rng(seed)
    truth = np.repeat(generator.integers(50, 99, (images, 1)), thresholds, 1)
    found = -np.sort(-generator.integers(1, 99, (images, thresholds)))
    of_truth, of_found = ((total * generator.random(total.shape)).astype(int) for total in (truth, found))
    boundaries = BoundaryCounts(of_truth, truth, of_found, found)
    pixels = np.full(truth.shape, 100.0)
    covered, of_regions, pri, vi = generator.random((4, *truth.shape))
    best = 100 * covered.max(1) + 0.5
    regions = RegionCounts(100 * covered, pixels, 100 * of_regions, pixels, pri, 3 * vi, best)
    names = tuple(map(str, range(images)))
    return BenchmarkCounts(names, benchmark_thresholds(thresholds), boundaries, regions)


# --- figures


def test_ods_and_ois_by_hand():
    counts = boundary_only([[8, 2], [4, 4]], [[10, 10], [10, 10]], [[8, 2], [4, 4]], [[10, 2], [8, 4]])
    figures = benchmark_figures(counts)
    recall, precision = bsds.precision_recall(counts)
    assert recall.tolist() == [12 / 20, 6 / 20] and precision.tolist() == [12 / 18, 6 / 6]
    assert figures["ods"] >= 2 * 0.6 * (2 / 3) / (0.6 + 2 / 3)  # between the thresholds F may be larger
    # the first image is best at the first threshold (F .8 against .33), the second at the second (.571
    # against .444)
    assert figures["ois_recall"] == 12 / 20 and figures["ois_precision"] == 12 / 14


def slow_best(thresholds, recall, precision):
    """The best of 100 points on each straight piece, the first of equals."""
    points = [(thresholds[0], recall[0], precision[0])]
    for i in range(1, len(thresholds)):
        points += [
            tuple((1 - d) * v[i - 1] + d * v[i] for v in (thresholds, recall, precision))
            for d in np.linspace(0, 1, 100)
        ]
    return max(
        ((*point, 2 * point[1] * point[2] / max(point[1] + point[2], 1e-300)) for point in points),
        key=lambda point: point[3],
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_best_f_is_looked_for_between_the_thresholds(seed):
    counts = random_counts(seed)
    recall, precision = bsds.precision_recall(counts)
    figures = benchmark_figures(counts)
    found = [figures[f"ods{name}"] for name in ("_threshold", "_recall", "_precision", "")]
    assert found == pytest.approx(slow_best(counts.thresholds, recall, precision))
    images = zip(*counts.boundaries, strict=True)
    for row, fields in zip(bsds.image_best(counts), images, strict=True):
        assert row == pytest.approx(
            slow_best(counts.thresholds, fields[0] / fields[1], fields[2] / fields[3])
        )


def test_average_precision_is_the_area_under_the_curve():
    # precision 1 up to recall .5, then down to .5
    counts = boundary_only([[100, 50, 0]], [[100] * 3], [[50, 50, 1]], [[100, 50, 1]])
    assert benchmark_figures(counts)["ap"] == pytest.approx(
        0.51 + sum(1 - 0.01 * k for k in range(1, 51)) * 0.01
    )
    # a point is no curve
    assert benchmark_figures(boundary_only([[5, 5]], [[10, 10]], [[5, 5]], [[10, 10]]))["ap"] == 0


def test_nothing_found_scores_0():
    figures = benchmark_figures(boundary_only([[0, 0]], [[10, 10]], [[0, 0]], [[0, 0]]))
    assert figures["ods"] == figures["ois"] == figures["ap"] == 0


def test_region_figures_by_hand():
    pixels = np.full((2, 2), 10.0)
    covered, pri, vi = (
        np.array([[6.0, 4], [2, 5]]),
        np.array([[0.5, 0.7], [0.9, 0.6]]),
        np.array([[1.0, 3], [2, 1]]),
    )
    regions = RegionCounts(covered, pixels, covered, pixels, pri, vi, np.array([7.0, 8]))
    counts = BenchmarkCounts(
        ("a", "b"), np.array([0.25, 0.75]), BoundaryCounts(*[np.ones((2, 2), int)] * 4), regions
    )
    figures = benchmark_figures(counts)
    assert (figures["covering_ods"], figures["covering_ods_threshold"]) == (9 / 20, 0.75)
    assert figures["covering_ois"] == 11 / 20 and figures["covering_best"] == 15 / 20
    assert (figures["pri_ods"], figures["pri_ods_threshold"], figures["pri_ois"]) == pytest.approx(
        (0.7, 0.25, 0.8)
    )
    assert (figures["vi_ods"], figures["vi_ods_threshold"], figures["vi_ois"]) == pytest.approx(
        (1.5, 0.25, 1.0)
    )


def test_printed_figures():
    text = bsds.figures_text(benchmark_figures(random_counts(0)))
    assert (
        "ODS: F( " in text
        and "Area_PR" in text
        and "GT covering: ODS = " in text
        and "Best = " in text
        and "Var. Info." in text
    )
    assert "Region" not in bsds.figures_text(benchmark_figures(boundary_only([[1]], [[2]], [[1]], [[2]])))


def test_results_of_two_kinds_are_not_gathered():
    maps, labels = [np.zeros((4, 4), bool)], [np.ones((4, 4), int)]
    thresholds = benchmark_thresholds(2)
    edges = bsds.score_image(np.zeros((4, 4)), None, maps, labels, thresholds)
    ucm = bsds.score_ucm(np.zeros((9, 9)), maps, labels, thresholds)
    with pytest.raises(InputError, match="one kind"):
        bsds.gather(["a", "b"], thresholds, [edges, ucm])
    with pytest.raises(InputError, match="no image"):
        bsds.gather([], thresholds, [])
    assert bsds.gather(["a"], thresholds, [ucm]).regions.covered.tolist() == [[16, 16]]


# --- comparisons


def drawn(counts, images):
    """The counts of a data set in which images are repeated."""
    boundaries, regions = (
        type(fields)(*(field[images] for field in fields)) for fields in (counts.boundaries, counts.regions)
    )
    return BenchmarkCounts(tuple(counts.names[k] for k in images), counts.thresholds, boundaries, regions)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_draw_of_the_bootstrap_is_the_benchmark_of_the_images_drawn(figure):
    counts, images = random_counts(1), [0, 0, 3, 5, 5, 5, 6]
    weights = np.bincount(images, minlength=7).astype(float)[None]
    assert FIGURES[figure](counts, weights)[0] == pytest.approx(
        benchmark_figures(drawn(counts, images))[figure]
    )


@pytest.mark.parametrize("figure", FIGURES)
def test_the_difference_is_of_the_figures_and_lies_in_its_interval(figure):
    a, b = random_counts(1, 40), random_counts(2, 40)
    difference, low, high = paired_bootstrap(a, b, figure, draws=200)
    assert difference == pytest.approx(benchmark_figures(a)[figure] - benchmark_figures(b)[figure])
    assert low < high
    assert paired_bootstrap(a, b, figure, draws=200) == (difference, low, high)
    assert paired_bootstrap(b, a, figure, draws=200) == pytest.approx((-difference, -high, -low))
    assert paired_bootstrap(a, a, figure, draws=50) == (0, 0, 0)


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(0.3, 1, 400)
    difference, low, high = bsds.paired_mean(values, np.zeros(400), draws=4000)
    assert difference == pytest.approx(values.mean())
    assert (high - low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1, abs=0.05)


def test_only_the_same_images_and_known_figures_are_compared():
    counts = random_counts(0)
    with pytest.raises(InputError, match="different images"):
        paired_bootstrap(counts, drawn(counts, [1, 0, 2, 3, 4, 5, 6]), "ods")
    with pytest.raises(InputError, match="no figure 'f'; choose from ods"):
        paired_bootstrap(counts, counts, "f")
    with pytest.raises(InputError, match="edge maps have no regions"):
        paired_bootstrap(*[boundary_only([[1]], [[2]], [[1]], [[2]])] * 2, "vi_ods")


# --- the authors' fixture


@pytest.fixture(scope="module")
def fixture(real_data):
    folder = real_data / "BSDS500/bench/data"
    if not folder.is_dir():
        pytest.skip(f"{folder}: the benchmark's fixture is not there")
    return folder


def score_fixture(folder, name, kind, thresholds):
    annotators = [entry[0, 0] for entry in loadmat(folder / f"groundTruth/{name}.mat")["groundTruth"].ravel()]
    boundaries = [annotator["Boundaries"].astype(bool) for annotator in annotators]
    truths = [annotator["Segmentation"] for annotator in annotators]
    if kind == "ucm2":
        return bsds.score_ucm(load_ucm2(folder / f"ucm2/{name}.mat"), boundaries, truths, thresholds)
    if kind == "png":
        return ImageScore(
            boundary_counts(load_edges(folder / f"png/{name}.png"), boundaries, thresholds), None
        )
    partitions = list(loadmat(folder / f"segs/{name}.mat")["segs"].ravel())
    maps = (boundary_map(labels).astype(float) for labels in partitions)
    counts = [boundary_counts(found, boundaries, np.array([0.5])) for found in maps]
    counts = BoundaryCounts(*map(np.concatenate, zip(*counts, strict=True)))
    return ImageScore(counts, region_counts(partitions, truths))


def evaluation_tables(counts):
    """The numbers of the MATLAB benchmark's text files, by file name without ending, in its columns."""
    figures, number = benchmark_figures(counts), np.arange(1, len(counts) + 1)
    recall, precision = bsds.precision_recall(counts)
    best = ("ods_threshold", "ods_recall", "ods_precision", "ods", "ois_recall", "ois_precision", "ois", "ap")
    curve = [counts.thresholds, recall, precision, bsds.f_measure(recall, precision)]
    tables = {
        "eval_bdry": [[figures[name] for name in best]],
        "eval_bdry_img": np.column_stack([number, bsds.image_best(counts)]),
        "eval_bdry_thr": np.column_stack(curve),
    }
    if counts.regions is None:
        return tables
    regions = counts.regions
    cover = ("covering_ods_threshold", "covering_ods", "covering_ois", "covering_best")
    pairs = ("pri_ods_threshold", "pri_ods", "pri_ois", "vi_ods_threshold", "vi_ods", "vi_ois")
    covering = regions.covered.sum(0) / regions.truth.sum(0)
    return tables | {
        "eval_cover": [[figures[name] for name in cover]],
        "eval_cover_img": np.column_stack([number, bsds.image_covering(counts)]),
        "eval_cover_th": np.column_stack([counts.thresholds, covering]),
        "eval_RI_VOI": [[figures[name] for name in pairs]],
        "eval_RI_VOI_thr": np.column_stack([counts.thresholds, regions.pri.mean(0), regions.vi.mean(0)]),
    }


@pytest.mark.parametrize(("test", "kind"), [(1, "ucm2"), (2, "png"), (3, "segs"), (4, "segs"), (5, "segs")])
def test_the_authors_tables_come_out(fixture, test, kind):
    """Regions to the six digits printed, boundary F within .001 of MATLAB's, whose matching draws random
    numbers."""
    names = sorted(path.stem for path in (fixture / "groundTruth").glob("*.mat"))
    thresholds = benchmark_thresholds(5)
    scores = [score_fixture(fixture, name, kind, thresholds) for name in names]
    found = evaluation_tables(bsds.gather(names, np.arange(1, 6) if kind == "segs" else thresholds, scores))
    expected = bsds.official_tables(fixture / f"test_{test}")
    assert len(expected) == {1: 8, 2: 3, 3: 3, 4: 8, 5: 5}[test]
    for name, table in expected.items():
        tolerance = 1e-5 if "bdry" not in name else 0.0015 if name == "eval_bdry_img" else 0.001
        assert np.asarray(found[name]) == pytest.approx(table, abs=tolerance, rel=0), name


def test_the_published_scores_are_read(real_data):
    folder = real_data / "BSDS500/ucm2/test_eval"
    if not folder.is_dir():
        pytest.skip(f"{folder}: the published scores are not there")
    tables = bsds.official_tables(folder)
    best = tables["eval_bdry_img"][:, 1:]
    assert best.shape == (200, 4) and tables["eval_cover_img"].shape == (200, 4)
    assert bsds.f_measure(*best[:, 1:3].T) == pytest.approx(best[:, 3], abs=1e-4)
    assert tables["eval_bdry"][0, 3] == 0.726253 and tables["eval_cover"][0, 1] == 0.588372


def test_a_folder_without_official_scores(tmp_path):
    with pytest.raises(InputError, match=r"no eval_bdry_img\.txt"):
        bsds.official_tables(tmp_path)
    (tmp_path / "eval_bdry_img.txt").write_text("1 0.5 a few words\n")
    with pytest.raises(InputError, match="not a table of numbers"):
        bsds.official_tables(tmp_path)
