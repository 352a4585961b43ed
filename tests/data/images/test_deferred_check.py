"""Where JPEGs can't be decoded on the device of a run."""

from __future__ import annotations

import pytest
import torch

from gantrain.data.images.deferred import check_decoder
from gantrain.errors import ConfigError


def test_a_run_on_the_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.decode_device=cuda.*cpu.*trainer.accelerator"):
        check_decoder(torch.device("cpu"))
