"""What is done to decoded samples: turned upright, other channels, another dtype. Only workers import this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from asyncfetch.decode.forms import Pixels


def turn_upright(image: Pixels, orientation: int) -> Pixels:
    """Undoes what a camera says of how it was held."""
    if orientation >= 5:
        image = cv2.transpose(image)
    mirrored = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if mirrored is None else cv2.flip(image, mirrored)


def resize(image: Pixels, size: tuple[int, int], way: int) -> Pixels:
    """Resizes by one of OpenCV's interpolations; of BGRA, colours count by their alpha: what is not seen adds none."""
    if image.ndim == 2 or image.shape[2] != 4 or image.dtype.name not in ("uint8", "float32"):
        plain: Pixels = cv2.resize(image, size, interpolation=way)
        return plain
    bytewise = image.dtype == np.uint8
    opaque = 255 if bytewise else 1
    deep: Any = np.uint16 if bytewise else np.float32  # 255 * 255 is the most that there can be
    alpha = image[..., 3].astype(deep)
    weighted = cv2.merge([image[..., channel] * alpha for channel in range(3)] + [alpha * deep(opaque)])
    small: Pixels = cv2.resize(weighted, size, interpolation=way).astype(np.float32)
    small[..., :3] *= opaque / np.maximum(small[..., 3:], 1e-6)
    small[..., 3] /= opaque
    if bytewise:
        small = np.rint(small).astype(np.uint8)
    return small


def convert(image: Pixels, dtype: str, depth: int) -> Pixels | None:
    """Gives samples of another dtype, as `DecodeOptions` says, or None where there is no such form of them.

    `depth` is the number of bits that unsigned samples really have.
    """
    if dtype in ("unchanged", image.dtype.name) and (dtype != "uint16" or depth == 16):
        return image
    if image.dtype.kind != "u":
        return image.astype(np.float32) if dtype == "float32" else None
    if dtype == "uint8":
        return (image >> (depth - 8)).astype(np.uint8)
    most = (1 << depth) - 1
    if dtype == "float32":
        return np.divide(image, np.float32(most), dtype=np.float32)
    if depth == 8:
        return np.multiply(image, np.uint16(257), dtype=np.uint16)
    return np.rint(image * np.float32(65535 / most)).astype(np.uint16)


def recolor(image: Pixels, color: str) -> Pixels | None:
    """Makes BGR or gray of (H, W), BGR or BGRA samples, or gives None where OpenCV has no such conversion."""
    if color == "unchanged":
        return image
    if image.ndim == 2:
        return image if color == "gray" else cv2.merge([image] * 3)
    if color != "gray":
        return np.ascontiguousarray(image[..., :3])
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        return None
    return cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
