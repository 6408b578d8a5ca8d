"""Equation 1 against a slow, obvious loop, in closed form, and at its edges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hgrl.core.settings import ObjectiveSettings
from hgrl.pretraining.objective import contrastive_loss
from hgrl.sampling.pixels import PixelSample

FORMS = ["ratio", "log"]


def sample_of(anchors, positives, negatives, positives_valid=None, negatives_valid=None):
    """A sample of one image from nested lists of cells; everything counts unless said otherwise."""
    anchors, positives, negatives = (torch.tensor([cells]) for cells in (anchors, positives, negatives))
    negatives = negatives.long()  # an empty list gives floats
    valid = [
        torch.ones_like(cells, dtype=torch.bool) if given is None else torch.tensor([given], dtype=torch.bool)
        for cells, given in ((positives, positives_valid), (negatives, negatives_valid))
    ]
    return PixelSample(anchors, positives, negatives, torch.ones_like(anchors, dtype=torch.bool), *valid)


def random_case(seed, batch=2, anchors=3, positives=4, negatives=5, valid=0.7, dim=6, size=(3, 4)):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(2, batch, dim, *size, generator=generator)
    cells = 2 * batch * size[0] * size[1]

    def index(*shape):
        return torch.randint(cells, shape, generator=generator)

    def mask(*shape):
        return torch.rand(shape, generator=generator) < valid

    sample = PixelSample(
        index(batch, anchors),
        index(batch, anchors, positives),
        index(batch, anchors, negatives),
        torch.ones(batch, anchors, dtype=torch.bool),
        mask(batch, anchors, positives),
        mask(batch, anchors, negatives),
    )
    return embedding, sample


def similarity(embedding, i, m):
    """Cosine of the vectors of two cells, numbered view, image, row, column."""
    _, batch, _, height, width = embedding.shape

    def vector(cell):
        cell, column = divmod(int(cell), width)
        cell, row = divmod(cell, height)
        view, image = divmod(cell, batch)
        return embedding[view, image, :, row, column]

    a, b = vector(i), vector(m)
    return float(a @ b / (a.norm() * b.norm()))


def slow_loss(embedding, sample, form, temperature):
    terms = []
    for b in range(sample.anchors.shape[0]):
        for a, i in enumerate(sample.anchors[b]):
            negatives = [
                n
                for n, valid in zip(sample.negatives[b, a], sample.negatives_valid[b, a], strict=True)
                if valid
            ]
            against = sum(math.exp(similarity(embedding, i, n) / temperature) for n in negatives)
            for m, valid in zip(sample.positives[b, a], sample.positives_valid[b, a], strict=True):
                if valid:
                    own = math.exp(similarity(embedding, i, m) / temperature)
                    ratio = own / (own + against)  # one term of equation 1
                    terms.append(-ratio if form == "ratio" else -math.log(ratio))
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.07])
@pytest.mark.parametrize("valid", [1.0, 0.6, 0.1])
def test_the_loss_is_equation_1_summed_one_term_after_the_other(form, temperature, valid):
    for seed in range(3):
        embedding, sample = random_case(seed, valid=valid)
        loss, _ = contrastive_loss(embedding, sample, ObjectiveSettings(form=form, temperature=temperature))
        assert loss.item() == pytest.approx(slow_loss(embedding, sample, form, temperature), abs=1e-5)


@pytest.mark.parametrize("count", [1, 5, 23])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_when_all_similarities_are_equal(count, temperature):
    """n negatives as similar as the positive: each term of equation 1 is 1 / (1 + n)."""
    embedding = torch.ones(2, 1, 4, 2, 2)
    sample = sample_of([0], [[1, 2]], [[3] * count])
    for form, expected in (("ratio", -1 / (1 + count)), ("log", math.log(1 + count))):
        loss, found = contrastive_loss(
            embedding, sample, ObjectiveSettings(form=form, temperature=temperature)
        )
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        assert (
            found["positive_similarity"].item() == pytest.approx(1.0) == found["negative_similarity"].item()
        )


def test_one_positive_that_points_along_and_one_negative_that_points_away():
    embedding = torch.zeros(2, 1, 1, 1, 2)
    embedding[..., 0], embedding[..., 1] = 3.0, -2.0
    loss, _ = contrastive_loss(embedding, sample_of([0], [[2]], [[1]]), ObjectiveSettings(form="ratio"))
    assert loss.item() == pytest.approx(-math.e / (math.e + 1 / math.e))


@hypothesis_settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), form=st.sampled_from(FORMS))
def test_the_length_of_an_embedding_does_not_matter(seed, scale, form):
    embedding, sample = random_case(seed)
    lengths = torch.rand(2, 2, 1, 3, 4, generator=torch.Generator().manual_seed(seed)) + 0.1
    settings = ObjectiveSettings(form=form, temperature=0.3)
    plain, scaled = (
        contrastive_loss(values, sample, settings)[0] for values in (embedding, embedding * lengths * scale)
    )
    torch.testing.assert_close(plain, scaled, atol=1e-4, rtol=1e-4)


@hypothesis_settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), form=st.sampled_from(FORMS), temperature=st.floats(0.05, 5.0))
def test_the_loss_stays_within_its_bounds(seed, form, temperature):
    embedding, sample = random_case(seed)
    loss, _ = contrastive_loss(embedding, sample, ObjectiveSettings(form=form, temperature=temperature))
    assert -1 <= loss <= 0 if form == "ratio" else 0 <= loss <= math.log(1 + 5) + 2 / temperature


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_positives_negatives_anchors_and_channels_does_not_matter(form):
    embedding, sample = random_case(0)
    p, n, a = torch.randperm(4), torch.randperm(5), torch.randperm(3)
    shuffled = PixelSample(
        sample.anchors[:, a],
        sample.positives[:, a][..., p],
        sample.negatives[:, a][..., n],
        sample.anchors_valid[:, a],
        sample.positives_valid[:, a][..., p],
        sample.negatives_valid[:, a][..., n],
    )
    settings = ObjectiveSettings(form=form)
    rotated = embedding.flip(2)  # a permutation of channels is an isometry
    torch.testing.assert_close(
        contrastive_loss(embedding, sample, settings)[0], contrastive_loss(rotated, shuffled, settings)[0]
    )


@pytest.mark.parametrize("form", FORMS)
def test_anchor_and_positive_may_change_places(form):
    embedding, _ = random_case(0, batch=1)
    settings = ObjectiveSettings(form=form)
    one = contrastive_loss(embedding, sample_of([2], [[7]], [[]]), settings)
    other = contrastive_loss(embedding, sample_of([7], [[2]], [[]]), settings)
    torch.testing.assert_close(one[1]["positive_similarity"], other[1]["positive_similarity"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("masked", ["positives", "negatives", "both"])
def test_masked_cells_weigh_nothing_and_leave_gradients_finite(form, masked):
    embedding, sample = random_case(0, valid=2.0)
    off = {
        "positives": ["positives_valid"],
        "negatives": ["negatives_valid"],
        "both": ["positives_valid", "negatives_valid"],
    }[masked]
    parts = {name: getattr(sample, name) for name in sample.__dataclass_fields__}
    sample = PixelSample(
        **{name: torch.zeros_like(part) if name in off else part for name, part in parts.items()}
    )
    embedding.requires_grad_()
    loss, found = contrastive_loss(embedding, sample, ObjectiveSettings(form=form, temperature=0.1))
    loss.backward()
    best = -1.0 if form == "ratio" else 0.0  # no negatives: the ratio is 1
    assert loss.item() == (best if masked == "negatives" else 0.0)
    assert torch.equal(embedding.grad, torch.zeros_like(embedding))
    assert all(torch.isfinite(value) for value in found.values())


@pytest.mark.parametrize("form", FORMS)
def test_no_negatives_at_all_is_the_best_ratio(form):
    embedding, _ = random_case(0, batch=1)
    embedding.requires_grad_()
    loss, found = contrastive_loss(embedding, sample_of([0], [[1]], [[]]), ObjectiveSettings(form=form))
    loss.backward()
    assert loss.item() == (-1.0 if form == "ratio" else 0.0)
    assert torch.isfinite(embedding.grad).all() and found["negative_similarity"] == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_vector_of_zeros_gives_no_nan(form):
    embedding = torch.zeros(2, 1, 4, 2, 2, requires_grad=True)
    loss, _ = contrastive_loss(embedding, sample_of([0], [[1]], [[2, 3]]), ObjectiveSettings(form=form))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embedding.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_downhill_pulls_positives_together_and_pushes_negatives_away(form):
    embedding = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sample, settings = sample_of([0], [[1]], [[2]]), ObjectiveSettings(form=form)
    loss, before = contrastive_loss(embedding, sample, settings)
    loss.backward()
    with torch.no_grad():
        after = contrastive_loss(embedding - 0.1 * embedding.grad, sample, settings)[1]
    assert after["positive_similarity"] > before["positive_similarity"]
    assert after["negative_similarity"] < before["negative_similarity"]


@pytest.mark.parametrize("form", FORMS)
def test_a_bf16_embedding_is_compared_in_float32(form):
    embedding, sample = random_case(0)
    settings = ObjectiveSettings(form=form, temperature=0.07)
    rounded = embedding.to(torch.bfloat16).requires_grad_()
    loss, _ = contrastive_loss(rounded, sample, settings)
    loss.backward()
    assert loss.dtype == torch.float32 and rounded.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, contrastive_loss(rounded.detach().float(), sample, settings)[0])


def test_under_autocast_the_similarities_are_computed_in_float32():
    embedding, sample = random_case(0)
    settings = ObjectiveSettings(form="log", temperature=0.07)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = contrastive_loss(embedding, sample, settings)
    torch.testing.assert_close(mixed, contrastive_loss(embedding, sample, settings)[0])


def test_diagnostics_carry_no_gradient():
    embedding, sample = random_case(0)
    _, found = contrastive_loss(embedding.requires_grad_(), sample, ObjectiveSettings())
    assert not any(value.requires_grad for value in found.values())
