"""MoCo, Ours + Image and DenseCL: losses against slow loops, the queue as a ring, the key encoder as a slow
copy.

No public implementation is among the pinned packages, so the loops are the only oracle."""

import math

import pytest
import torch
from conftest import batch_of, three_regions
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize

from hgrl.core.errors import InputError
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.contrast import MomentumEncoder, Queue, image_codes, in_groups, info_nce
from hgrl.pretraining.methods.densecl import dense_codes, matched_cells
from hgrl.pretraining.methods.hierarchical import pixel_loss


def unit(*shape, seed=0):
    return normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


def slow_info_nce(queries, keys, queue, temperature):
    total = 0.0
    for query, key in zip(queries.tolist(), keys.tolist(), strict=True):
        dot = lambda other: math.exp(sum(a * b for a, b in zip(query, other, strict=True)) / temperature)  # noqa: E731, B023
        total -= math.log(dot(key) / (dot(key) + sum(dot(row) for row in queue.tolist())))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("n, size", [(5, 9), (1, 1), (4, 30)])
def test_info_nce_equals_the_slow_loop(n, size, temperature):
    queries, keys, queue = unit(n, 6), unit(n, 6, seed=1), unit(size, 6, seed=2)
    assert info_nce(queries, keys, queue, temperature).item() == pytest.approx(
        slow_info_nce(queries, keys, queue, temperature), rel=1e-12
    )


def test_info_nce_of_equal_similarities_is_the_log_of_their_number():
    same = torch.ones(3, 1, dtype=torch.float64)
    assert info_nce(same, same, torch.ones(7, 1, dtype=torch.float64), 0.07).item() == pytest.approx(
        math.log(8)
    )


@hypothesis_settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 12), data=st.data())
def test_the_queue_holds_the_last_keys_and_overwrites_the_oldest(size, data):
    queue = Queue(size, 2, 1, "moco.queue")
    history = queue.keys.tolist()  # oldest first
    for _ in range(data.draw(st.integers(1, 8))):
        keys = torch.rand(data.draw(st.integers(1, size)), 2)
        queue.push(keys)
        history = (history + keys.tolist())[-size:]
        ring = queue.keys.roll(-int(queue.next), 0).tolist()
        assert ring == history


def test_a_queue_shorter_than_a_batch_is_one_line(tiny):
    with pytest.raises(
        InputError, match=r"setting 'methods\.moco\.queue': a queue of 3 is shorter than a batch of 4"
    ):
        build_method("moco", tiny({"methods.moco.queue": 3}))


def test_the_queue_starts_as_unit_vectors():
    torch.testing.assert_close(Queue(5, 7, 1, "").keys.norm(dim=1), torch.ones(5))


def test_a_step_looks_up_the_queue_as_it_was_before_its_own_keys_entered(settings):
    """Else an own key would be among the negatives."""
    method, batch = build_method("moco", settings), batch_of([three_regions()] * 4)
    before = method.queue.keys.clone()
    queries = image_codes(method.query_features(batch.images[0]), method.head)
    loss, _ = method.loss(batch)
    keys = method.queue.keys[:4]
    assert (
        torch.equal(method.queue.keys[4:], before[4:])
        and not torch.equal(keys, before[:4])
        and int(method.queue.next) == 4
    )
    torch.testing.assert_close(loss, info_nce(queries, keys, before, method.moco.temperature))
    method.loss(batch)
    assert torch.equal(method.queue.keys[:4], keys) and int(method.queue.next) == 8


def test_momentum_update_by_hand():
    query = nn.Linear(1, 1, bias=False)
    query.weight.data.fill_(1.0)
    keys = MomentumEncoder((query,), None, momentum=0.75, groups=1)
    query.weight.data.fill_(5.0)
    for expected in (2.0, 2.75):  # 3/4 * 1 + 1/4 * 5; 3/4 * 2 + 1/4 * 5
        keys.follow((query,))
        assert keys.copies[0].weight.item() == expected
    assert query.weight.item() == 5.0


@pytest.mark.parametrize("name", ["moco", "hierarchical-image", "densecl"])
def test_the_key_encoder_starts_equal_and_follows_the_formula(name, tiny):
    method = build_method(name, tiny({"methods.moco.momentum": 0.9, "methods.densecl.momentum": 0.9}))
    followed = [
        method.network.backbone,
        *([method.head] if hasattr(method, "head") else [method.image_head, method.cell_head]),
    ]
    queries = [p for module in followed for p in module.parameters()]
    keys = list(method.key_encoder.parameters())
    assert len(queries) == len(keys) and all(torch.equal(a, b) for a, b in zip(queries, keys, strict=True))
    with torch.no_grad():
        for p in queries:
            p.add_(torch.randn_like(p))
    expected = [0.9 * k + 0.1 * q for k, q in zip(keys, queries, strict=True)]
    method.loss(batch_of([three_regions()] * 4))
    for key, value in zip(keys, expected, strict=True):
        torch.testing.assert_close(key, value)


def group_sizes(images, groups):
    sizes = []
    encoder = MomentumEncoder(
        (), lambda _, group: (sizes.append(len(group)), (group - group.mean(0),))[1], 0.9, groups
    )
    return sizes, encoder(images, torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize(
    "images, groups, sizes", [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (5, 8, [3, 2]), (2, 8, [2]), (1, 8, [1])]
)
def test_shuffled_groups_keep_the_order_and_never_leave_an_image_by_itself(images, groups, sizes):
    given_images = torch.arange(images, dtype=torch.float64)[:, None]
    found, codes = group_sizes(given_images, groups)
    assert found == sizes
    # each image's group mean: constant in a group, whose mean it is
    shares = (given_images - codes).round(decimals=6)
    for mean in shares.unique():
        members = given_images[shares == mean]
        assert members.mean() == pytest.approx(mean.item(), abs=1e-6)


def test_shuffled_groups_are_dealt_anew_and_not_in_order():
    encoder = MomentumEncoder((), lambda _, group: (group - group.mean(0),), 0.9, 2)
    images, generator = torch.arange(16.0)[:, None], torch.Generator().manual_seed(0)
    first, second = encoder(images, generator)[0], encoder(images, generator)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(first[:8], images[:8] - images[:8].mean())


@pytest.mark.parametrize(
    "images, groups, sizes", [(8, 2, [4, 4]), (7, 3, [3, 2, 2]), (5, 8, [3, 2]), (1, 8, [1])]
)
def test_queries_are_normalised_in_groups_as_large_as_their_keys_are(images, groups, sizes):
    given_images = torch.rand(images, 3, dtype=torch.float64)
    found = []
    codes = in_groups(lambda own: (found.append(len(own)), own - own.mean(0))[1], given_images, groups)
    assert found == sizes == group_sizes(given_images[:, :1], groups)[0]
    for place, code in enumerate(codes):
        group = [given_images[other] for other in range(images) if other % len(sizes) == place % len(sizes)]
        torch.testing.assert_close(code, given_images[place] - sum(group) / len(group))


def test_ours_and_image_is_the_sum_of_the_two(settings):
    torch.manual_seed(0)
    method = build_method("hierarchical-image", settings)
    kept = {key: value.clone() for key, value in method.state_dict().items()}
    loss, parts = method.loss(batch_of([three_regions()] * 4))
    torch.testing.assert_close(loss.detach(), parts["pixel_loss"] + parts["image_loss"])
    method.load_state_dict(kept)
    again = batch_of([three_regions()] * 4)
    pixel, _ = pixel_loss(
        method.network(normalise(again.flat_images)), again, settings.sampling, settings.objective
    )
    torch.testing.assert_close(pixel.detach(), parts["pixel_loss"])


def test_densecl_matches_each_cell_with_the_most_similar_one():
    features, others, keys = unit(2, 5, 7), unit(2, 4, 7, seed=1), unit(2, 4, 3, seed=2)
    found = matched_cells(features, others, keys)
    for image in range(2):
        for cell in range(5):
            best = max(range(4), key=lambda other: sum(features[image, cell] * others[image, other]))
            assert torch.equal(found[image, cell], keys[image, best])


def test_densecl_equals_a_slow_loop_over_images_and_cells(tiny):
    settings = tiny(
        {
            f"methods.densecl.{key}": value
            for key, value in (("cell_weight", 0.25), ("groups", 1), ("grid", 2))
        }
    )
    torch.manual_seed(0)
    # eval: statistics do not move
    method, batch = build_method("densecl", settings).eval(), batch_of([three_regions()] * 4)
    queues = method.image_queue.keys.clone(), method.cell_queue.keys.clone()
    heads = method.image_head, method.cell_head
    # the key encoder is a copy
    views = [
        dense_codes(method.network.backbone(normalise(images))[-1], *heads, 2) for images in batch.images
    ]
    (features, image, cells, _), (key_features, key_image, key_cells, key_mean) = [
        [part.detach().double() for part in view] for view in views
    ]
    image_loss = slow_info_nce(image, key_image, queues[0].double(), 0.2)
    cell_loss = 0.0
    for b in range(4):
        for s in range(cells.shape[1]):
            match = int((key_features[b] @ features[b, s]).argmax())
            cell_loss += slow_info_nce(
                cells[b, s : s + 1], key_cells[b, match][None], queues[1].double(), 0.2
            ) / (4 * cells.shape[1])
    loss, _ = method.loss(batch)
    assert loss.item() == pytest.approx(0.75 * image_loss + 0.25 * cell_loss, rel=1e-4)
    torch.testing.assert_close(method.image_queue.keys[:4].double(), key_image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(method.cell_queue.keys[:4].double(), key_mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size, grid, cells", [((14, 14), 7, 49), ((4, 4), 7, 16), ((4, 9), 6, 24)])
def test_dense_codes_have_at_most_the_grids_cells(size, grid, cells):
    features, image, dense, mean = dense_codes(
        torch.randn(2, 6, *size), nn.Linear(6, 3), nn.Conv2d(6, 3, 1), grid
    )
    assert (features.shape, image.shape, dense.shape, mean.shape) == (
        (2, cells, 6),
        (2, 3),
        (2, cells, 3),
        (2, 3),
    )
    for codes in (features, image, dense, mean):
        torch.testing.assert_close(codes.norm(dim=-1), torch.ones(codes.shape[:-1]))
