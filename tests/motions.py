"""Textured images, and the same under known motions: what the tests of flow share."""

import cv2
import numpy as np


def textured(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 noise with structure at every scale."""
    random = np.random.default_rng(seed)
    noise = [
        scale * cv2.GaussianBlur(random.normal(size=(height, width, 3)), (0, 0), scale)
        for scale in (1, 2, 4, 8)
    ]
    total = sum(noise)
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


def moved(reference: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, flow, inside): the image shows at p what `reference` has at p + flow(p), where `inside`.

    affine: (2, 3), from p - c to p - c + flow, c the image's centre."""
    height, width = reference.shape[:2]
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    centre = np.array([width - 1, height - 1]) / 2
    there = ((here - centre) @ affine[:, :2].T + affine[:, 2] + centre).astype(np.float32)
    inside = ((there >= 0) & (there <= [width - 1, height - 1])).all(-1)
    image = cv2.remap(reference, there, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return image, there - here, inside


def affine(degrees: float = 0, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    a, b = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]])


def end_point_error(flow: np.ndarray, true: np.ndarray, inside: np.ndarray) -> float:
    return float(np.linalg.norm(flow - true, axis=-1)[inside].mean())
