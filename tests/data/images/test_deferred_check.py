"""Devices that decode JPEGs, and others."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from gantrain.data.images.deferred import Deferred, check_decoder, decode_deferred
from gantrain.errors import ConfigError


def test_a_run_on_the_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.decode_device=cuda.*cpu.*trainer.accelerator"):
        check_decoder(torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_decodes_and_crops_as_pillow_does() -> None:
    device = torch.device("cuda")
    check_decoder(device)
    waves = np.sin(np.linspace(0, 6, 48)[:, None, None] + np.linspace(0, 4, 80)[:, None] + np.arange(3)) * 100 + 128
    file = BytesIO()
    Image.fromarray(waves.astype(np.uint8)).save(file, format="JPEG", quality=95)
    halves = [
        Deferred(file.getvalue(), 3, (32, 32), column, 2).cut(2, 4, 24, 20, flip=bool(column)) for column in (0, 1)
    ]
    left, right = decode_deferred(halves, device).cpu().permute(0, 2, 3, 1).float().numpy()
    pillow = Image.open(file)
    for found, box in ((left, (0, 0, 40, 48)), (right[:, ::-1], (40, 0, 80, 48))):
        expected = np.asarray(pillow.crop(box).resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32)
        assert np.abs(found - expected[2:26, 4:24]).mean() < 3
