"""Retrieval: K-means segments, descriptors, exact neighbours, and a split whose right answer is known."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from hgrl.core.data_settings import Source
from hgrl.core.errors import InputError
from hgrl.core.settings import RetrievalSettings
from hgrl.data.sources import open_samples
from hgrl.evaluation import retrieval
from hgrl.evaluation.features import lab_angles

SETTINGS = RetrievalSettings(segments=3)
COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


@dataclass
class ToySamples:
    """A split held in memory: what retrieval asks of `hgrl.data.samples.Samples`."""

    images: list
    masks: list
    classes: tuple = ("red", "green", "blue")
    asked: list = field(default_factory=list)

    def __len__(self):
        return len(self.images)

    def image(self, index, short_side=None):
        self.asked.append(short_side)
        return self.images[index]

    def mask(self, index):
        return self.masks[index]


def stripes(*classes, height=16, width=8):
    """An image of horizontal stripes whose colour is their class, and its mask."""
    mask = np.array(classes, np.uint8).repeat(height)[:, None].repeat(width, 1)
    return COLOURS[mask], mask


def samples_of(*images):
    return ToySamples(*map(list, zip(*images, strict=True)))


# --- segments


def test_well_separated_features_become_their_own_segments():
    centres = torch.eye(4)
    truth = np.random.default_rng(0).integers(0, 4, (12, 12))
    noise = torch.randn(4, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.01
    found = max(
        (retrieval.segment_image(centres[truth].permute(2, 0, 1) + noise, 4, seed) for seed in range(5)),
        key=lambda m: m.max(),
    )
    pairs = {(a, b) for a, b in zip(truth.ravel(), found.ravel(), strict=True)}
    assert found.dtype == np.uint8 and len(pairs) == 4  # a renaming of the truth


def test_segments_are_seeded_and_ignore_scale():
    grid = torch.randn(8, 10, 14, generator=torch.Generator().manual_seed(0))
    first = retrieval.segment_image(grid, 5, 0)
    assert np.array_equal(first, retrieval.segment_image(grid, 5, 0))
    assert np.array_equal(first, retrieval.segment_image(4 * grid, 5, 0))
    assert not np.array_equal(first, retrieval.segment_image(grid, 5, 1))
    assert np.array_equal(np.unique(first), np.arange(5))


def test_every_cell_belongs_to_the_nearest_segment_mean():
    """What Lloyd's iterations converge to, checked cell by cell."""
    grid = torch.randn(6, 9, 9, generator=torch.Generator().manual_seed(1))
    labels = retrieval.segment_image(grid, 4, 0, iterations=100).ravel()
    cells = torch.nn.functional.normalize(grid, dim=0).flatten(1).T.numpy()
    means = np.stack([cells[labels == s].mean(0) for s in range(4)])
    for cell, label in zip(cells, labels, strict=True):
        assert np.argmin([((cell - mean) ** 2).sum() for mean in means]) == label


@pytest.mark.parametrize(("distinct", "k"), [(1, 5), (2, 5), (3, 3)])
def test_fewer_distinct_features_give_fewer_segments(distinct, k):
    grid = torch.eye(4)[:distinct].repeat(24 // distinct, 1).T.reshape(4, 4, 6)
    labels = retrieval.segment_image(grid, k, 0)
    assert labels.max() < distinct


def test_more_segments_than_cells():
    assert retrieval.segment_image(torch.randn(3, 1, 2), 15, 0).shape == (1, 2)


def test_descriptor_is_the_mean_of_unit_features_normalised():
    grid = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = np.random.default_rng(0).integers(0, 3, (4, 4)).astype(np.uint8)
    labels[0, :3] = [0, 1, 2]
    fast = retrieval.describe(grid, labels)
    for segment in range(3):
        total = np.zeros(5)
        for y, x in np.argwhere(labels == segment):
            vector = grid[:, y, x].numpy()
            total += vector / np.linalg.norm(vector)
        np.testing.assert_allclose(fast[segment], total / np.linalg.norm(total), atol=1e-5)


# --- retrieval


def test_colour_retrieves_colour_classes():
    train = samples_of(stripes(0, 1, 2), stripes(2, 0, 1))
    val = samples_of(stripes(1, 2, 0), stripes(2, 2, 1))
    scores = retrieval.retrieve(train, val, lab_angles, SETTINGS, seed=0)
    assert scores["miou"] == scores["pixel_accuracy"] == 1
    assert scores["iou"] == {"red": 1.0, "green": 1.0, "blue": 1.0}


def test_class_without_training_examples_scores_zero():
    scores = retrieval.retrieve(
        samples_of(stripes(0, 0, 1)), samples_of(stripes(0, 1, 2)), lab_angles, SETTINGS, seed=0
    )
    assert scores["iou"]["blue"] == 0 and scores["miou"] < 1


def test_void_neither_votes_nor_scores():
    image, mask = stripes(0, 1, 2)
    masked = mask.copy()
    masked[mask == 2] = 255  # the blue stripe's segment is all void: it must not be found
    masked[:14][mask[:14] == 0] = 255  # red keeps two rows, which decide
    scores = retrieval.retrieve(
        samples_of((image, masked)), samples_of((image, masked)), lab_angles, SETTINGS, seed=0
    )
    assert scores["pixel_accuracy"] == 1 and scores["iou"]["blue"] is None


def test_a_gallery_of_void_alone_is_one_line():
    image, mask = stripes(0, 1, 2)
    void = samples_of((image, np.full_like(mask, 255)))
    with pytest.raises(InputError, match=r"'data.labelled': the train masks are all void; name a split"):
        retrieval.retrieve(void, samples_of((image, mask)), lab_angles, SETTINGS, seed=0)


def test_majority_at_the_masks_own_resolution():
    """One segment over a 2 x 1 grid, a 4 x 3 mask: 7 pixels of class 1 against 5 of class 2."""
    segments = retrieval.Segments(
        (np.zeros((2, 1), np.uint8),), np.ones((1, 2), np.float32), np.zeros(1, int), np.zeros(1, int)
    )
    mask = np.array([[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 1, 1]], np.uint8)
    assert retrieval.majority_classes(segments, ToySamples([None], [mask])).tolist() == [1]


def test_scores_are_taken_at_the_masks_size():
    """A grid of two cells against a mask whose edge cuts through one of them."""
    segments = retrieval.Segments(
        (np.array([[0], [1]], np.uint8),), np.eye(2, dtype=np.float32), np.zeros(2, int), np.arange(2)
    )
    mask = np.array([[0], [1], [1], [1]], np.uint8)
    scores = retrieval.score_labels(segments, np.array([0, 1]), ToySamples([None], [mask], ("a", "b")))
    assert scores["iou"] == pytest.approx({"a": 1 / 2, "b": 2 / 3})


def test_nearest_segments_are_exact_and_say_where_they_lie():
    rng = np.random.default_rng(0)

    def unit(count):
        vectors = rng.normal(size=(count, 6))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    grids = (np.arange(6, dtype=np.uint8).reshape(2, 3),) * 4
    gallery = retrieval.Segments(grids, unit(24), np.repeat(np.arange(4), 6), np.tile(np.arange(6), 4))
    queries = retrieval.Segments(grids[:1], unit(6), np.zeros(6, int), np.arange(6))
    found, cosines = retrieval.nearest_segments(queries.descriptors[[4, 1]], gallery.descriptors, 3)
    for row, query in enumerate((4, 1)):
        products = [float(queries.descriptors[query] @ other) for other in gallery.descriptors]
        assert found[row].tolist() == np.argsort(products)[::-1][:3].tolist()
        assert cosines[row].tolist() == pytest.approx(sorted(products)[::-1][:3], abs=1e-5)


@pytest.mark.parametrize("neighbours", [1, 4])
@pytest.mark.parametrize("blocks", [(256, 4096), (3, 5), (1, 1), (7, 60)])
def test_nearest_segments_in_blocks_are_faiss_own(neighbours, blocks, monkeypatch):
    import faiss

    monkeypatch.setattr(retrieval, "QUERIES", blocks[0])
    monkeypatch.setattr(retrieval, "GALLERY", blocks[1])
    rng = np.random.default_rng(1)
    asked, offered = (rng.normal(size=(count, 6)).astype(np.float32) for count in (10, 61))
    found, cosines = retrieval.nearest_segments(asked[::-1], offered, neighbours)
    index = faiss.IndexFlatIP(6)
    index.add(offered)
    theirs, rows = index.search(asked[::-1].copy(), neighbours)
    assert found.dtype == np.int64 and cosines.dtype == np.float32
    assert np.array_equal(found, rows)
    np.testing.assert_allclose(cosines, theirs, atol=1e-5)


def test_an_equal_neighbour_of_a_later_block_does_not_take_the_place(monkeypatch):
    monkeypatch.setattr(retrieval, "GALLERY", 2)
    one, other, far = np.eye(3, dtype=np.float32)
    gallery = np.stack([other, one, far, other, one])
    found, _ = retrieval.nearest_segments(np.stack([one, other]), gallery)
    assert found.tolist() == [[1], [0]]


def test_a_gallery_smaller_than_the_ranking_leaves_places_empty():
    two = np.eye(2, dtype=np.float32)
    found, cosines = retrieval.nearest_segments(two[1:], two, 3)
    assert found.tolist() == [[1, 0, -1]] and cosines.tolist() == [[1, 0, -np.inf]]
    assert retrieval.nearest_segments(two[:0], two, 3)[0].shape == (0, 3)


def test_images_of_many_sizes_keep_their_order():
    train = samples_of(stripes(0, 1), stripes(1, 0, 2), stripes(2, 1, width=12), stripes(0, 1))
    sizes = []
    segments = retrieval.find_segments(
        train, lambda images: sizes.append(images.shape) or lab_angles(images), SETTINGS, seed=0
    )
    assert [grid.shape for grid in segments.maps] == [(8, 2), (12, 2), (8, 3), (8, 2)]
    assert (
        len(segments.descriptors)
        == len(segments.image)
        == len(segments.segment)
        == sum(int(grid.max()) + 1 for grid in segments.maps)
    )
    assert len(sizes) == 4 and train.asked == [None] * 4


def test_equal_sizes_are_embedded_together():
    batches = []

    def counted(images):
        batches.append(len(images))
        return lab_angles(images)

    retrieval.find_segments(samples_of(*[stripes(0, 1)] * 40), counted, SETTINGS, seed=0)
    assert batches == [retrieval.EMBEDDED_AT_ONCE, 40 - retrieval.EMBEDDED_AT_ONCE]


def test_colour_on_real_voc(real_data):
    """Better than calling everything background."""
    if not (real_data / "VOC2012").is_dir():
        pytest.skip(f"{real_data} holds no VOC2012")
    train, val = (
        open_samples(Source(kind="voc", folder="VOC2012", split=split), real_data)
        for split in ("train", "val")
    )
    train, val = (samples.subset(range(0, min(len(samples), 240), 8)) for samples in (train, val))
    scores = retrieval.retrieve(train, val, lab_angles, RetrievalSettings(short_side=120), seed=0)
    truth = np.concatenate([mask[mask != 255] for mask in map(val.mask, range(len(val)))])
    assert (
        scores["miou"] > (truth == 0).mean() / len(np.unique(truth))
        and scores["pixel_accuracy"] > 0.35
        and len(scores["iou"]) == 21
    )


# --- the picture


def test_distinct_images_keep_the_ranking():
    gallery = retrieval.Segments(
        (), np.zeros((6, 2), np.float32), np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 1])
    )
    assert retrieval.distinct_images(np.array([3, 2, 5, 0, 1, 4]), gallery, 2) == [3, 5]
    assert retrieval.distinct_images(np.array([3, 2, 5, 0, 1, 4]), gallery, 9) == [3, 5, 0]


def test_figure_4_shows_one_object_an_image_and_marks_wrong_neighbours():
    from hgrl.reporting.figures import retrieval as figures

    val = samples_of(stripes(0, 1, 1), stripes(0, 0), stripes(2, 0))
    train = samples_of(stripes(1, 0), stripes(2, 1))
    queries, gallery = (
        retrieval.find_segments(split, lab_angles, SETTINGS, seed=0) for split in (val, train)
    )
    rows = figures.query_rows(queries, val, count=5)
    classes = retrieval.majority_classes(queries, val)
    # image 1 holds class 0 alone
    assert queries.image[rows].tolist() == [0, 2] and classes[rows].tolist() == [1, 2]
    tiles = figures.retrieval_tiles(queries, val, gallery, train, rows, classes[rows], neighbours=2)
    assert [tile.title.split()[:2] for tile in tiles[1][:2]] == [["query:", "blue"], ["✓", "blue"]]
    assert tiles[1][1].right and not tiles[1][2].right  # only one train image holds blue
    assert len(figures.retrieval_grid({"colour": tiles, "again": tiles}).axes) == 12
    assert figures.segment_map(val.image(0), {"colour": queries.maps[0]}).axes
