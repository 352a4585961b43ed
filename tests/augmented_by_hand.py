"""The operations of adaptive augmentation on one image, by numpy and scipy: an image is (C, H, W) in float64."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import upfirdn
from scipy.spatial.transform import Rotation

from gantrain.models.augmentation.geometry import SYM6

FILTER = np.array(SYM6)


def copied(image: np.ndarray, flip: int, quarters: int, right: int, down: int) -> np.ndarray:
    if flip:
        image = image[:, :, ::-1]
    image = np.rot90(image, quarters, axes=(1, 2))
    height, width = image.shape[1:]
    beyond = max(height, width) + abs(right) + abs(down)
    wide = np.pad(image, ((0, 0), (beyond, beyond), (beyond, beyond)), mode="symmetric")
    return wide[:, beyond - down : beyond - down + height, beyond - right : beyond - right + width]


def forward_matrix(change: dict[str, float], height: int, width: int) -> np.ndarray:
    """The homogeneous matrix that moves a place (x, y, 1), from the center, to its new place."""

    def rotation(angle: float) -> np.ndarray:
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])

    size, aspect = 2 ** change["size"], 2 ** change["aspect"]
    matrix = np.diag([size, size, 1])
    matrix = rotation(change["before"]) @ matrix
    matrix = np.diag([aspect, 1 / aspect, 1]) @ matrix
    matrix = rotation(change["after"]) @ matrix
    return np.array([[1, 0, width * change["move_x"]], [0, 1, height * change["move_y"]], [0, 0, 1]]) @ matrix


def resampled(image: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Upsampled with a wide margin, interpolated bilinearly at the places of the inverse matrix, downsampled."""
    _, height, width = image.shape
    beyond = 12 + 4 * max(height, width)
    inverse = np.linalg.inv(forward)
    rows, columns = ((np.arange(2 * side + 10) - 5 - 0.5) / 2 for side in (height, width))  # In pixels.
    x, y = np.meshgrid(columns - (width - 1) / 2, rows - (height - 1) / 2)
    x, y, _ = np.tensordot(inverse, np.stack([x, y, np.ones_like(x)]), axes=1)
    x, y = x + (width - 1) / 2 + beyond, y + (height - 1) / 2 + beyond
    results = []
    for channel in image:
        fine = np.pad(channel, beyond, mode="symmetric")
        for axis in (0, 1):
            # The convolution with zeros between pixels, whose first sample belongs to the place -5 / 2.
            fine = upfirdn(2 * FILTER, fine, up=2, axis=axis)
        moved = map_coordinates(fine, [2 * y + 0.5 + 5, 2 * x + 0.5 + 5], order=1, mode="constant", cval=np.nan)
        for axis, side in ((0, height), (1, width)):
            moved = upfirdn(FILTER[::-1], moved, down=1, axis=axis)
            moved = np.take(moved, 11 + 2 * np.arange(side), axis=axis)
        results.append(moved)
    return np.stack(results)


def recolored(image: np.ndarray, change: dict[str, float]) -> np.ndarray:
    """By homogeneous matrices of colors; an image of one channel is one of three equal channels."""
    count = len(image)
    axis = np.ones(3) / np.sqrt(3)
    matrix = np.eye(4)
    matrix[:3, 3] = change["brightness"]
    matrix = np.diag([2 ** change["contrast"]] * 3 + [1]) @ matrix
    along = np.outer(axis, axis)
    steps = [np.eye(3) - 2 * along * change["luma"]]
    steps += [Rotation.from_rotvec(change["hue"] * axis).as_matrix()]
    steps += [along + (np.eye(3) - along) * 2 ** change["saturation"]]
    for step in steps:
        whole = np.eye(4)
        whole[:3, :3] = step
        matrix = whole @ matrix
    colors = [image] if count == 3 else [np.repeat(channel[None], 3, axis=0) for channel in image]
    changed = [np.tensordot(matrix[:3, :3], each, axes=1) + matrix[:3, 3:, None] for each in colors]
    return changed[0] if count == 3 else np.stack([each.mean(axis=0) for each in changed])


def augmented(image: np.ndarray, change: dict[str, float]) -> np.ndarray:
    """All operations in order, with the amounts of ``AdaptiveAugmentation.draw``."""
    _, height, width = image.shape
    quarters = int(4 * change["quarters"]) if height == width else 2 * int(2 * change["quarters"])
    right, down = round(width * change["right"] / 8), round(height * change["down"] / 8)
    image = copied(image, int(change["flip"]), quarters, right, down)
    image = resampled(image, forward_matrix(change, height, width))
    return recolored(image, change)
