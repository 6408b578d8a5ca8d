"""DeepCluster (Caron et al. 2018): the network learns the clusters of its own features as classes."""

from collections.abc import Iterable

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hgrl.core.data_settings import AtLeastOne, Fraction, Range, Section
from hgrl.core.errors import InputError
from hgrl.core.settings import Settings, ViewSettings
from hgrl.data.normalise import normalise
from hgrl.pretraining import ranks
from hgrl.pretraining.methods.base import Method
from hgrl.sampling.views import Batch


class DeepClusterViews(ViewSettings):
    """The augmentation of the authors' code: torchvision's crops, mirrored, colours as they are."""

    crop_area: Range = (0.08, 1.0)
    jitter: Fraction = 0.0


class DeepClusterSettings(Section):
    clusters: AtLeastOne = 10_000  # the paper's, for ImageNet: 128 images each
    components: AtLeastOne = 256  # of whitened PCA, if there are as many
    iterations: AtLeastOne = 20  # of K-means, in the authors' code
    augment: DeepClusterViews | None = DeepClusterViews()  # None: as the profile has it


class DeepCluster(Method):
    """Before each epoch all images are clustered, and the last layer is drawn afresh; clusters count alike.

    On the pooled last stage, without the authors' AlexNet or VGG and its three layers behind. Colour stays:
    they put Sobel filters before those networks. Both views of an image count, with its one class."""

    needs_trees = False
    begins = "epoch"
    own = ("deepcluster", DeepClusterSettings)
    layers = ("backbone",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.classifier = nn.Linear(self.network.channels["backbone"], self.deepcluster.clusters)
        self.register_buffer("assignments", torch.zeros(0, dtype=torch.long))  # each image's cluster

    def begin(self, images: Iterable[Tensor], generator: Generator) -> list[nn.Parameter]:
        device = self.classifier.weight.device
        seed = int(torch.randint(2**31 - 1, (), generator=generator, device=device))
        assigned = ranks.from_first(lambda: self._clusters(images, seed))
        self.assignments = torch.tensor(assigned, device=device)
        with torch.no_grad():
            self.classifier.weight.normal_(0, 0.01, generator=generator)
            self.classifier.bias.zero_()
        return list(self.classifier.parameters())

    @torch.no_grad()
    def _clusters(self, images: Iterable[Tensor], seed: int) -> np.ndarray:
        features = [
            self.network.backbone(normalise(batch))[-1].float().mean((2, 3)).cpu() for batch in images
        ]
        own, found = self.deepcluster, torch.cat(features).numpy()
        if own.clusters > len(found):
            problem = f"{own.clusters} clusters of {len(found)} images"
            raise InputError(f"setting 'methods.deepcluster.clusters': {problem}; lower it")
        return clusters(whitened(found, own.components), own.clusters, own.iterations, seed)

    def image_weights(self) -> Tensor:
        """Each cluster that has images is drawn as often as any other."""
        return 1 / self.assignments.bincount()[self.assignments].float().cpu()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.classifier(self.network.backbone(normalise(batch.flat_images))[-1].mean((2, 3))).float()
        classes = self.assignments[batch.indices].repeat(len(batch.images))
        right = (logits.argmax(1) == classes).float().mean()
        return F.cross_entropy(logits, classes), {"right_clusters": right.detach()}

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        if (saved := state.get(f"{prefix}assignments")) is not None:  # of as many images as the run has
            self.assignments = torch.empty_like(saved, device=self.assignments.device)
        super()._load_from_state_dict(state, prefix, *rest)


def whitened(features: np.ndarray, components: int) -> np.ndarray:
    """(N, D) -> (N, at most components) unit vectors: along the principal axes, in units of deviation."""
    centred = (features - features.mean(0)).astype(np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    kept = np.flatnonzero(variances > 1e-10 * variances[-1])[
        -components:
    ]  # an axis without spread has no unit
    white = centred @ (axes[:, kept] / np.sqrt(variances[kept]))
    return white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12)


def clusters(points: np.ndarray, count: int, iterations: int, seed: int) -> np.ndarray:
    """(N, D) -> (N,) int64 in [0, count): K-means by faiss on all points."""
    points = np.ascontiguousarray(points, dtype=np.float32)
    faiss.omp_set_num_threads(torch.get_num_threads())
    every = {"min_points_per_centroid": 1, "max_points_per_centroid": len(points)}
    kmeans = faiss.Kmeans(points.shape[1], count, niter=iterations, seed=seed, **every)
    kmeans.train(points)
    return kmeans.index.search(points, 1)[1][:, 0]
