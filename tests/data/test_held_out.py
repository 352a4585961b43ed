"""Data modes that ignore the phase are detected."""

from __future__ import annotations

import pytest
import torch

from gantrain.data.base import Batch, ImageDataset, ImageSpec
from gantrain.data.held_out import is_held_out


class Numbered(ImageDataset):
    """Gray images of one pixel with these values."""

    def __init__(self, *values: int, fingerprint: str = "") -> None:
        self.spec = ImageSpec(1, 1, {"image": 1}, {"image": "uint8"})
        self.fingerprint = fingerprint
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def item(self, index: int, seed: int) -> Batch:
        if self._values[index] < 0:
            raise OSError("unreadable")
        return {"image": torch.full((1, 1, 1), self._values[index], dtype=torch.uint8)}


@pytest.mark.parametrize("fingerprint", ["", "abc"])
def test_the_same_images_are_not_held_out(fingerprint: str) -> None:
    train, test = (Numbered(1, 2, 3, fingerprint=fingerprint) for _ in range(2))
    assert not is_held_out(train, test)


@pytest.mark.parametrize(
    "test",
    [
        Numbered(1, 2, fingerprint="abc"),
        Numbered(1, 2, 3, fingerprint="abd"),
        Numbered(4, 2, 3, fingerprint="abc"),
        Numbered(1, 4, 3, fingerprint="abc"),
        Numbered(1, 2, 4, fingerprint="abc"),
        Numbered(1, -1, 3, fingerprint="abc"),
    ],
)
def test_another_size_fingerprint_or_image_is_held_out(test: Numbered) -> None:
    assert is_held_out(Numbered(1, 2, 3, fingerprint="abc"), test)


def test_one_image_is_compared_with_itself() -> None:
    assert not is_held_out(Numbered(1), Numbered(1))
    assert is_held_out(Numbered(1), Numbered(2))
