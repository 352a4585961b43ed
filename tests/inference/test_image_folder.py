"""Results have every channel, in the depth and range of the data; pages show some channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import data_of, lines_of
from PIL import Image

import gantrain
from gantrain.cli.main import main
from gantrain.data.images.decoding import decode
from gantrain.models.base import LatentGAN

RANGES: dict[Any, tuple[float, float]] = {np.uint8: (0, 255), np.uint16: (0, 4095), np.float32: (-1000, 3000)}


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [(1, np.uint8), (2, np.uint8), (3, np.uint16), (4, np.uint8), (5, np.float32), (1, np.float32), (6, np.uint16)],
)
def test_noise_models_write_samples_as_their_data_are(channels: int, dtype: Any) -> None:
    low, high = RANGES[dtype]
    Path("d").mkdir()
    for number in range(2):
        values = np.random.default_rng(number).uniform(low, high, (16, 16, channels)).astype(dtype)
        np.save(f"d/{number}.npy", values)
    given = [] if dtype == np.uint8 else [f"data.range=[{low},{high}]"]
    data = ["data=single", "data.root=d", f"data.channels={channels}", "data.load_size=16", *given]
    small = ["network.width=2", "data.batch_size=2", "data.num_workers=0", "trainer.steps=1", "name=run"]
    assert main(["train", "model=dcgan", *data, *small, "trainer.accelerator=cpu"]) == 0
    assert main(["test", "run=checkpoints/run", "num=3", "accelerator=cpu", "out=results"]) == 0
    model = gantrain.load("checkpoints/run")
    assert isinstance(model.module, LatentGAN)
    expected = (model.sample(model.latents(3, seed=0)).double().permute(0, 2, 3, 1).numpy() + 1) / 2 * (
        high - low
    ) + low
    written = sorted(Path("results/samples").iterdir())
    as_png = dtype != np.float32 and channels in (1, 3)
    assert [path.name for path in written] == [f"0000{number}.{'png' if as_png else 'npy'}" for number in range(3)]
    for path, wanted in zip(written, expected, strict=True):
        stored = read(path)
        assert (stored.shape, stored.dtype) == ((16, 16, channels), dtype)
        np.testing.assert_allclose(stored, wanted, atol=(high - low) * 1e-5 + (0 if dtype == np.float32 else 0.51))
    shown = ["results/grid.png", "results/interpolations.png", "results/training_samples.png"]
    shown += [f"results/{url}" for _, (url,), *_ in data_of("results", "results")["tables"][0]["rows"]]
    shown += [f"checkpoints/run/{line['url']}" for line in lines_of("checkpoints/run", "images")]
    assert {len(np.shape(Image.open(path))) for path in shown if not as_png} <= {3 if channels >= 3 else 2}


def read(path: Path) -> np.ndarray:
    """(H, W, C), in all 16 bits of a colour PNG."""
    values = np.load(path) if path.suffix == ".npy" else decode(path, 0).pixels
    return values[..., None] if values.ndim == 2 else values
