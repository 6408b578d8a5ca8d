"""Embeddings as colours (figures 2 and 3)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from hgrl.reporting.figures.panels import picture_rows


def pca_colours(embedding: Tensor) -> np.ndarray:
    """The first three principal components of unit embeddings: (B, D, h, w) -> (B, h, w, 3) in [0, 1].

    One PCA for all images: equal colours mean equal features. Stretched from 2nd to 98th percentile."""
    batch, channels, h, w = embedding.shape
    cells = embedding.permute(0, 2, 3, 1).reshape(-1, channels).double().numpy()
    cells = cells / np.maximum(np.linalg.norm(cells, axis=1, keepdims=True), 1e-12)
    cells -= cells.mean(0)
    _, _, directions = np.linalg.svd(cells, full_matrices=False)
    components = cells @ directions[:3].T  # fewer than three where channels or cells are fewer
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = np.percentile(components, (2, 98), axis=0)
    return np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(batch, h, w, 3)


def embedding_rows(images: np.ndarray, embeddings: Mapping[str, Tensor]) -> Figure:
    """Images (B, H, W, 3) over one row of PCA colours per named embedding."""
    colours = {name: pca_colours(embedding) for name, embedding in embeddings.items()}
    figure = picture_rows({"image": images, **colours})
    for axis in figure.axes[len(images) :]:
        axis.images[0].set_interpolation("bilinear")
    return figure
