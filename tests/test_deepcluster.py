"""DeepCluster: clusters of features, drawn alike, learnt by a last layer that is fresh in every epoch."""

import math

import numpy as np
import pytest
import torch
from jobs import job_of, train, train_until
from PIL import Image

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.data.normalise import normalise
from hgrl.data.samples import Samples
from hgrl.pretraining.loop import TrainingLoop
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.deepcluster import DeepCluster, clusters, whitened
from hgrl.sampling.order import EpochOrder
from hgrl.sampling.views import Batch, whole_images

CPU = torch.device("cpu")


def test_whitening_gives_every_direction_the_same_spread():
    random = np.random.default_rng(0)
    features = (random.normal(size=(400, 5)) * (10, 3, 1, 0.1, 0)) @ random.normal(size=(5, 5)) + 7
    white = whitened(features.astype(np.float32), 4)
    assert white.shape == (400, 4)
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, rtol=1e-6)
    covariance = white.T @ white / len(white)
    np.testing.assert_allclose(covariance, np.eye(4) / 4, atol=0.05)
    two = whitened(features, 2)
    directions = (features - features.mean(0)) @ np.linalg.svd(features - features.mean(0))[2][:2].T
    directions /= directions.std(0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(two[:, ::-1]), np.abs(directions), atol=1e-5)


def test_clusters_are_the_groups_that_are_there():
    random, truth = np.random.default_rng(0), np.repeat(np.arange(2), 50)
    points = np.eye(3)[truth] + random.normal(0, 0.05, (100, 3))
    found = clusters(points, 2, 20, seed=3)
    assert np.array_equal(found, truth) or np.array_equal(found, 1 - truth)
    np.testing.assert_array_equal(found, clusters(points, 2, 20, seed=3))


def test_every_cluster_is_drawn_as_often_as_any_other(settings):
    method = build_method("deepcluster", settings)
    method.assignments = torch.tensor([0] * 90 + [2] * 9 + [1])
    order = EpochOrder(100, 10, 200, 0).rest_of_epoch(0, method.image_weights())
    counts = torch.zeros(3)
    for epoch in range(200):
        for batch in EpochOrder(100, 10, 200, 0).rest_of_epoch(10 * epoch, method.image_weights()):
            counts += torch.bincount(method.assignments[[index for _, index in batch]], minlength=3)
    assert (counts / counts.sum() - 1 / 3).abs().max() < 0.01
    assert list(order) == list(EpochOrder(100, 10, 200, 0).rest_of_epoch(0, method.image_weights()))
    tail = EpochOrder(100, 10, 200, 0).rest_of_epoch(7, method.image_weights())
    assert list(tail) == list(order)[7:] and len(tail) == 3


def test_the_loss_is_the_cross_entropy_of_the_clusters_of_both_views(settings):
    method = build_method("deepcluster", settings).eval().requires_grad_(False)
    method.assignments = torch.tensor([2, 0, 1, 1, 2])
    images = torch.randint(256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    nothing = torch.zeros(2, 3, 8, 8), torch.zeros(3, 1, 1), 0.0, torch.Generator()
    loss, _ = method.loss(Batch(images, *nothing, indices=torch.tensor([4, 1, 2])))
    total = 0.0
    for view in images:
        for image, cluster in zip(view, (2, 0, 1), strict=True):
            features = method.network.backbone(normalise(image[None]))[-1][0].mean((1, 2))
            weights = [
                math.exp(features @ row + bias)
                for row, bias in zip(*method.classifier.parameters(), strict=True)
            ]
            total -= math.log(weights[cluster] / sum(weights))
    assert loss.item() == pytest.approx(total / 6, rel=1e-4)


def test_each_epoch_begins_with_new_clusters_and_a_fresh_last_layer(dataset, settings, tmp_path, monkeypatch):
    """Which the optimiser does not know: its moments of the last layer begin anew."""
    begun, real = [], DeepCluster.begin

    def begin(self, images, generator):
        assert not self.training
        fresh = real(self, images, generator)
        begun.append((self.assignments.clone(), self.classifier.weight.detach().clone()))
        return fresh

    monkeypatch.setattr(DeepCluster, "begin", begin)
    trained = train(dataset, settings, tmp_path / "a.pt", method="deepcluster")
    assert len(begun) == 3 and all(len(assigned) == 8 for assigned, _ in begun)
    assert not torch.equal(begun[0][1], begun[1][1]) and begun[1][1].std() < 0.02
    assert torch.equal(trained.method["assignments"], begun[-1][0])
    steps = sorted(int(state["step"]) for state in trained.optimizer["state"].values())
    assert steps[:2] == [2, 2] and steps[2] == steps[-1] == 6


def test_a_run_stopped_within_an_epoch_keeps_its_clusters(dataset, settings, tmp_path, monkeypatch):
    job = job_of(dataset, settings, tmp_path / "a.pt", method="deepcluster")
    train_until(job, stop_after=3)
    monkeypatch.setattr(DeepCluster, "begin", None)  # must not be called
    assert train_until(job, stop_after=4).step == 4
    assert len(load_checkpoint(job.path).method["assignments"]) == 8


def test_more_clusters_than_images_are_one_line(dataset, tiny, tmp_path):
    with pytest.raises(
        InputError, match=r"methods\.deepcluster\.clusters': 9 clusters of 8 images; lower it"
    ):
        train(dataset, tiny({"methods.deepcluster.clusters": 9}), tmp_path / "a.pt", method="deepcluster")


def test_clusters_are_of_whole_images_in_their_order(dataset, settings, tmp_path):
    loop = TrainingLoop(job_of(dataset, settings, tmp_path / "a.pt", method="deepcluster"), CPU)
    images = list(whole_images(loop.views, 3, 0, CPU))
    assert [len(batch) for batch in images] == [3, 3, 2] and images[0].shape[1:] == (3, 32, 32)
    own = torch.from_numpy(dataset[0].image(4).astype(np.float32)).mean((0, 1))
    assert (images[1][1].float().mean((1, 2)) - own).abs().max() < 25


def test_training_lowers_the_loss_within_an_epoch(dataset, tiny, tmp_path):
    """Flat images and noisy ones: the first axis of the untrained features tells them apart."""
    changes = {
        "methods.deepcluster.clusters": 2,
        "methods.deepcluster.components": 1,
        "methods.deepcluster.augment.crop_area": [1, 1],
    }
    for index, path in enumerate(dataset[0].images[:4]):
        Image.fromarray(np.full((40, 48, 3), 100 + 10 * index, np.uint8)).save(path)
    samples = Samples(tuple(f"toy/{k}" for k in range(80)), dataset[0].images * 10)
    trained = train(
        (samples, dataset[1]),
        tiny({**changes, "pretrain.epochs": 1}),
        tmp_path / "a.pt",
        method="deepcluster",
    )
    assert torch.unique(trained.method["assignments"].view(10, 2, 4), dim=2).shape == (10, 2, 1)
    assert trained.losses[:2].mean() == pytest.approx(math.log(2), abs=0.1)
    assert trained.losses[-5:].mean() < 0.5
