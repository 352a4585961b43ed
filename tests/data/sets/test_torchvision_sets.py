"""torchvision's data sets: the values of their images, and the errors for corrupt files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, newest
from PIL import Image
from torchvision_files import made_celeba, made_cifar10, made_mnist

from gantrain.cli.main import main
from gantrain.data.sets.torchvision_sets import TorchvisionDataset
from gantrain.registry import DATASETS

FACES = Path("made/celeba/img_align_celeba")


def of(dataset: str, phase: str = "train", size: int = 32) -> TorchvisionDataset:
    keys = {"mode": "torchvision", "dataset": dataset, "root": "made", "load_size": size, "crop_size": size}
    return DATASETS.build({**keys, "flip": False}, phase=phase)


def test_a_face_is_the_center_of_the_scaled_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made_celeba(Path("made"), monkeypatch)
    faces = of("CelebA", "test", 64)
    assert len(faces) == 2
    # 178 x 218 becomes 64 x 78; 7 rows are cropped above and below.
    expected = Image.open(FACES / "000007.jpg").resize((64, 78), Image.Resampling.BICUBIC).crop((0, 7, 64, 71))
    np.testing.assert_array_equal(faces.item(1, 0)["image"].permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("dataset", ["MNIST", "CIFAR10"])
def test_images_in_memory_equal_those_of_torchvision(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    made_mnist(Path("made"), "MNIST")
    made_cifar10(Path("made"), monkeypatch)
    theirs = getattr(datasets, dataset)("made", train=False)
    ours = of(dataset, "test", 28 if dataset == "MNIST" else 32)
    assert len(ours) == len(theirs) == 10
    assert ours.spec.class_names == tuple(theirs.classes)
    for index in (0, 9):
        item, (image, label) = ours.item(index, 0), theirs[index]
        pixels = np.asarray(image)
        np.testing.assert_array_equal(item["image"].permute(1, 2, 0).numpy(), pixels.reshape(*pixels.shape[:2], -1))
        assert item["label"] == label


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_file_stops_the_run_with_its_name_or_is_skipped(
    workers: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made_celeba(Path("made"), monkeypatch)
    broken = FACES / "000002.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    typed = ["data=celeba", "data.root=made", f"data.num_workers={workers}", "trainer.steps=2", "name=run"]
    assert main(["train", *TINY, *typed]) == 2
    assert re.search(rf"^gantrain: can't read the image {broken}: .+$", capfd.readouterr().err, re.MULTILINE)
    assert main(["train", *TINY, *typed, "data.on_error=skip"]) == 0
    assert f"left out: can't read the image {broken}: " in capfd.readouterr().err
    assert newest("run")["step"] == 2


def test_data_check_measures_the_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made_celeba(Path("made"), monkeypatch)
    (FACES / "000003.jpg").write_bytes(b"")
    (FACES / "000006.jpg").unlink()
    assert main(["data", "check", "data=celeba", "data.root=made"]) == 1
    printed = capsys.readouterr().out
    for line in (
        r"images +4 +2",
        r"unreadable +1 +1",
        r"height +218 +218",
        r"  can't read the image made/celeba/img_align_celeba/000003\.jpg: the file is empty",
        r"  can't read the image made/celeba/img_align_celeba/000006\.jpg: No such file or directory",
    ):
        assert re.search(rf"^{line}$", printed, re.MULTILINE), line


@pytest.mark.parametrize("content", [b"", b"no numbers", b"\0\0\x08\x09", b"\0\0\x08\x03" + bytes([0, 0, 1, 0] * 3)])
def test_corrupt_files_are_reported_in_one_line(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    made_mnist(Path("made"), "MNIST")
    Path("made/MNIST/raw/train-images-idx3-ubyte").write_bytes(content)
    assert main(["train", *TINY, "data=mnist", "data.root=made", "trainer.steps=1"]) == 2
    printed = capsys.readouterr()
    for part in ("gantrain: MNIST ", "data.root (made)", "downloaded ("):
        assert part in printed.err
    assert printed.err.count("\n") == 1
