"""What tests of image-to-image models share: images, pages, and forward passes computed from a state dict."""

from __future__ import annotations

import html.parser
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import data_of, named_by
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gantrain.cli.main import main
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator

CPU = ["trainer.accelerator=cpu", "data.num_workers=0"]
SIZES = ["data.load_size=36", "data.crop_size=32"]
# Weights whose outputs differ visibly.
SPREAD = ["network.generator.init=xavier", "network.generator.init_gain=1.0"]
RESNET = ["network.width=2", "network.generator.blocks=1", *SPREAD, *CPU]
COLOUR = ["data.load_size=32", "data.crop_size=32", "network.width=2"]
KINDS_A = ("real_a", "fake_b", "rec_a", "idt_b")
KINDS_B = ("real_b", "fake_a", "rec_b", "idt_a")


def image(path: str | Path, height: int, width: int, mode: str = "RGB", seed: int | None = None) -> Path:
    """Save a coarse pattern of noise, which differs from path to path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(os.fsencode(path)) if seed is None else seed)
    pixels = random.integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    pixels = pixels.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def deep(path: str | Path, height: int, width: int) -> np.ndarray:
    """Save a gray image of 16 bits, and return its pixels."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(os.fsencode(path))).integers(0, 65536, (height, width), dtype=np.uint16)
    Image.fromarray(pixels).save(path)
    return pixels


def layout(root: Path, size: int = 32, **counts: int) -> Path:
    """Save so many images in ``root/trainA`` and other folders, all with different names."""
    for folder, count in counts.items():
        for number in range(count):
            image(root / folder / f"n{ord(folder[-1])}_{number}.jpg", size, size)
    return root


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Reader(html.parser.HTMLParser):
    """The links, elements and words of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attrs}
        self.links += [value for key, value in attrs if key in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.words += data


def files(folder: str | Path) -> list[str]:
    """The files below a folder, without those of its page, sorted."""
    folder = Path(folder)
    everything = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        name for name in everything if name.partition("/")[0] not in ("index.html", "files.txt", "index_files")
    )


def linked(folder: str | Path) -> list[str]:
    """The files that the page of a folder shows, sorted."""
    tables = data_of(folder, "results")["tables"]
    found = [named_by(link) for table in tables for _, links, *_ in table["rows"] for link in links if link is not None]
    assert len(set(found)) == len(found)
    return sorted(found)


def squeezed(page: Path) -> str:
    """The text of a page, with single spaces between words."""
    return " ".join(Reader(page).words.split())


def expected(names: dict[tuple[str, ...], list[str]]) -> list[str]:
    return sorted(f"{kind}/{name}.png" for kinds, own in names.items() for kind in kinds for name in own)


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def unit(path: str | Path) -> Tensor:
    """(1, C, H, W) in [-1, 1]."""
    values = pixels(path)
    return torch.from_numpy(np.atleast_3d(values / (127.5 if values.dtype == np.uint8 else 32767.5) - 1)).permute(
        2, 0, 1
    )[None]


def rounded(image: Tensor) -> np.ndarray:
    """The pixels (H, W, 3) of an 8-bit PNG of an image (1, 3, H, W) in [-1, 1]."""
    return ((image[0].permute(1, 2, 0).double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def bits(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in files(folder)}


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """The error message of a command that exits with status 2: one line, apart from its progress bars."""
    capsys.readouterr()
    assert main(list(command)) == 2
    lines = [
        line
        for line in re.split(r"[\r\n]+", capsys.readouterr().err)
        if not re.search(r"image/s\]|s/image\]", line) and line.strip()
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("gantrain: ")
    return lines[0]


# ---- forward passes from state dicts


def normalised(state: dict[str, Tensor], place: str, x: Tensor, training: bool) -> Tensor:
    """Batch norm if it has weights, with running statistics unless ``training``, or else instance norm."""
    if f"{place}.weight" not in state:
        return F.instance_norm(x)
    mean, var = (None, None) if training else (state[f"{place}.running_mean"], state[f"{place}.running_var"])
    return F.batch_norm(x, mean, var, state[f"{place}.weight"], state[f"{place}.bias"], training=training)


def resnet_by_hand(state: dict[str, Tensor], x: Tensor, *, blocks: int, training: bool) -> Tensor:
    """CycleGAN's generator without dropout: stem, two downsamplings, blocks, two upsamplings, output layer."""

    def weights(place: str) -> tuple[Tensor, Tensor | None]:
        return state[f"{place}.weight"], state.get(f"{place}.bias")

    def norm(place: str, x: Tensor) -> Tensor:
        return normalised(state, place, x, training)

    def reflected(x: Tensor, pixels: int) -> Tensor:
        return F.pad(x, (pixels,) * 4, mode="reflect")

    x = F.relu(norm("model.2", F.conv2d(reflected(x, 3), *weights("model.1"))))
    x = F.relu(norm("model.5", F.conv2d(x, *weights("model.4"), stride=2, padding=1)))
    x = F.relu(norm("model.8", F.conv2d(x, *weights("model.7"), stride=2, padding=1)))
    for number in range(10, 10 + blocks):
        inner = f"model.{number}.conv_block"
        # With dropout, the index of the second convolution is one higher.
        second = next(place for place in (5, 6) if f"{inner}.{place}.weight" in state)
        y = F.relu(norm(f"{inner}.2", F.conv2d(reflected(x, 1), *weights(f"{inner}.1"))))
        x = x + norm(f"{inner}.{second + 1}", F.conv2d(reflected(y, 1), *weights(f"{inner}.{second}")))
    for number in (10 + blocks, 13 + blocks):
        x = F.conv_transpose2d(x, *weights(f"model.{number}"), stride=2, padding=1, output_padding=1)
        x = F.relu(norm(f"model.{number + 1}", x))
    return torch.tanh(F.conv2d(reflected(x, 3), *weights(f"model.{17 + blocks}")))


def unet_by_hand(state: dict[str, Tensor], x: Tensor, *, training: bool) -> Tensor:
    """The U-Net of pix2pix without dropout."""

    def weights(place: str) -> tuple[Tensor, Tensor | None]:
        return state[f"{place}.weight"], state.get(f"{place}.bias")

    def block(place: str, x: Tensor) -> Tensor:
        x = F.leaky_relu(x, 0.2)
        y = F.conv2d(x, *weights(f"{place}.1"), stride=2, padding=1)
        up = 3
        if f"{place}.5.weight" in state:  # This is not the innermost block.
            y = block(f"{place}.3.model", normalised(state, f"{place}.2", y, training))
            up = 5
        y = F.conv_transpose2d(F.relu(y), *weights(f"{place}.{up}"), stride=2, padding=1)
        return torch.cat([x, normalised(state, f"{place}.{up + 1}", y, training)], dim=1)

    x = block("model.model.1.model", F.conv2d(x, *weights("model.model.0"), stride=2, padding=1))
    return torch.tanh(F.conv_transpose2d(F.relu(x), *weights("model.model.3"), stride=2, padding=1))


INIT = {"init": "xavier", "init_gain": 1.0}
KEYS = {
    "width": 3,
    "blocks": 2,
    "downsamplings": 2,
    "kernel": 3,
    "stem": 7,
    "padding": "reflection",
    "antialias": False,
    "dropout": 0.0,
    "upsample": "transposed",
    **INIT,
}
DEEP = {"width": 3, "depth": 5, "dropout": 0.0, "skips": True, "upsample": "transposed", **INIT}


def weights_file(path: str, network: str, norm: str, *, inputs: int = 3, outputs: int = 3) -> dict[str, Tensor]:
    """Save a generator as the reference does, with running statistics unlike initial ones; return its state dict."""
    torch.manual_seed(len(network + norm))
    sizes = {"input_shape": (inputs, 32, 32), "shape": (outputs, 32, 32)}
    if network == "resnet":
        state = ResnetGenerator(**sizes, **KEYS, norm=norm).state_dict()
    else:
        state = UNetGenerator(**sizes, **DEEP, norm=norm).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) * 0.5 + 0.3)
    torch.save(state, path)
    return state
