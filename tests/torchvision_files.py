"""Small data sets in the files that torchvision reads."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def made_mnist(root: Path, name: str) -> None:
    """The four files of MNIST (idx format), 20 images to train on and 10 to test."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        # The header of idx: two zero bytes, 8 for uint8, the number of dimensions, each dimension in four bytes.
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def made_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's batches of pickled rows, and its class names; torchvision's checksums are disabled."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for file, count in (("data_batch_1", 20), ("test_batch", 10)):
        rows = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": rows, "labels": [i % 10 for i in range(count)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})


def made_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CelebA's tables and seven images of its size, four of them to train on."""
    from torchvision.datasets import CelebA

    folder = root / CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, 8)]
    generator = np.random.default_rng(0)
    for name in names:
        pixels = generator.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
    splits = [0, 0, 0, 0, 1, 2, 2]  # Train, valid and test.
    tables = {
        "list_eval_partition.txt": [f"{name} {split}" for name, split in zip(names, splits, strict=True)],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_attr_celeba.txt": ["7", "Smiling Young", *(f"{name} 1 -1" for name in names)],
        "list_bbox_celeba.txt": ["7", "image_id x y w h", *(f"{name} 1 1 9 9" for name in names)],
        "list_landmarks_align_celeba.txt": ["7", "nose_x nose_y", *(f"{name} 3 4" for name in names)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(CelebA, "file_list", [("", None, name) for name in tables])
