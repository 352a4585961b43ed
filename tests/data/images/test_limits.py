"""Very large images are read if they fit in memory."""

from __future__ import annotations

import io
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from warm import Warm

from gantrain.data.images import limits
from gantrain.data.images.decoding import decode
from gantrain.data.images.headers import read_header
from gantrain.data.images.limits import USUAL_PIXELS, check_size
from gantrain.data.images.opening import ONE_LARGE_IMAGE, open_image
from gantrain.errors import ConfigError


@pytest.mark.parametrize(
    ("pixels", "channels", "value_bytes", "stored", "free", "expected"),
    [
        (USUAL_PIXELS, 3, 1, 1000, 0, False),  # As in Pillow.
        (2 * USUAL_PIXELS, 3, 1, 10**8, 10**11, True),
        (2 * USUAL_PIXELS, 3, 1, 10**8, 6 * 10**9, "take about 8.59 GB to decode, and 4.8 GB"),
        (2 * USUAL_PIXELS, 1, 2, 10**8, 10**10, "take about 8.59 GB to decode"),
        (2 * USUAL_PIXELS, 3, 1, 10**6, 10**11, "could be an attack"),
        (1000, 10**8, 1, 10**6, 10**12, "could be an attack"),  # Few pixels of many channels.
    ],
)
def test_unusual_sizes_must_fit_in_memory_and_not_be_an_attack(
    pixels: int, channels: int, value_bytes: int, stored: int, free: int, expected: bool | str, monkeypatch
) -> None:
    monkeypatch.setattr(limits, "free_memory", lambda: free)
    if isinstance(expected, bool):
        assert check_size(pixels, 1, channels, value_bytes, stored) == expected
        return
    with pytest.raises(ValueError, match=f"its {pixels} x 1 pixels .*{expected}.*scale it"):
        check_size(pixels, 1, channels, value_bytes, stored)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "page.tif"])
def test_the_limit_is_that_of_every_format(suffix: str, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / f"1.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    if suffix == "page.tif":  # A page that isn't the first.
        with tifffile.TiffWriter(path) as file:
            file.write(pixels[:8, :10], photometric="rgb", subfiletype=1)
            file.write(pixels, photometric="rgb")
    else:
        Image.fromarray(pixels).save(path)
    monkeypatch.setattr(limits, "USUAL_PIXELS", 1999)
    assert decode(path, 3).pixels.shape == (40, 50, 3)
    assert not ONE_LARGE_IMAGE.locked()
    with ExitStack() as stack:
        open_image(path, stack, 3)
        assert ONE_LARGE_IMAGE.locked()
    monkeypatch.setattr(limits, "free_memory", lambda: 1000)
    for action in (decode, read_header):
        with pytest.raises(ConfigError, match=r"1\..*: its 50 x 40 pixels .* GB.*scale it, or leave it out"):
            action(path, 3)


def test_large_images_are_decoded_one_at_a_time(monkeypatch) -> None:
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, "BMP")
    monkeypatch.setattr(limits, "USUAL_PIXELS", 1)
    thread = threading.Thread(target=decode, args=(file.getvalue(), 1), daemon=True)
    with ONE_LARGE_IMAGE:
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
    thread.join(30)
    assert not thread.is_alive()


def test_decoders_print_nothing(warm: Warm, tmp_path: Path) -> None:
    path = tmp_path / "1.tif"
    tifffile.imwrite(path, np.zeros((9, 9, 7), np.uint8), photometric="minisblack", planarconfig="contig")
    code = "import sys; from pathlib import Path; from gantrain.data.images.decoding import decode\n"
    result = warm.run(["-c", f"{code}print(decode(Path(sys.argv[1]), 7).pixels.shape)", str(path)])
    assert (result.stdout, result.stderr) == ("(9, 9, 7)\n", "")
