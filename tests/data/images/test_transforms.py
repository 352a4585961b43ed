"""Images are scaled, cropped and flipped."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gantrain.config.schema import construct
from gantrain.data.images.transforms import Mode, Preprocess, Size, resize
from gantrain.errors import ConfigError

Pixels = np.ndarray
DTYPES = [np.uint8, np.uint16, np.float32]


def smooth(height: int, width: int, channels: int = 3) -> Pixels:
    """Waves and noise from black to white; (H, W, C), uint8."""
    generator = np.random.default_rng(0)
    y, x, channel = np.ogrid[:height, :width, :channels]
    waves = 127.5 + 100 * np.sin(x / 5 + channel) * np.cos(y / 7)
    return (waves + generator.normal(0, 20, (height, width, channels))).clip(0, 255).astype(np.uint8)


def stored(pixels: Pixels, dtype: Any) -> Pixels:
    """The same image in another type."""
    if dtype == np.float32:
        return (pixels / 127.5 - 1).astype(np.float32)
    return pixels.astype(np.uint16) * 257 if dtype == np.uint16 else pixels


def preprocess(mode: Mode, load: Size = 16, crop: Size = 12, *, training: bool = True, **more: Any) -> Preprocess:
    return Preprocess(preprocess=mode, load_size=load, crop_size=crop, training=training, **{"flip": False, **more})


def pillow(pixels: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def as_image(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


# ---- resizing

SIZES = [(40, 60, 20, 20), (355, 32, 64, 64), (70, 110, 286, 286), (9, 9, 40, 7), (700, 1100, 128, 201)]


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_8_bit_images_are_resized_bit_identically_to_pillow(
    height: int, width: int, to_height: int, to_width: int, channels: int
) -> None:
    pixels = smooth(height, width, channels)
    result = resize(pixels, to_height, to_width)
    assert (result.shape, result.dtype) == ((to_height, to_width, channels), np.uint8)
    for channel in range(channels):
        np.testing.assert_array_equal(result[..., channel], pillow(pixels[..., channel], to_height, to_width))
    if channels == 3:
        np.testing.assert_array_equal(result, pillow(pixels, to_height, to_width))


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_images_are_resized_like_8_bit_images(
    height: int, width: int, to_height: int, to_width: int, channels: int, dtype: Any
) -> None:
    pixels = smooth(height, width, channels) // 2 + 64  # Pillow also clips after the first axis.
    result = resize(stored(pixels, dtype), to_height, to_width)
    assert (result.shape, result.dtype) == ((to_height, to_width, channels), dtype)
    in_8_bits = result / 257 if dtype == np.uint16 else (result.astype(float) + 1) * 127.5
    assert np.abs(np.rint(in_8_bits) - resize(pixels, to_height, to_width)).max() <= 1


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint16, 0, 65535), (np.float32, -1, 1)])
def test_overshoots_of_the_filter_are_clipped(dtype: Any, low: float, high: float) -> None:
    edge = np.full((16, 16, 1), low, dtype)
    edge[:, 8:] = high
    row = resize(edge, 64, 64)[0, :, 0].astype(float)
    assert (row.min(), row.max()) == (low, high)
    assert np.diff(row).min() > -1e-6  # No value wraps around.


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_of_the_requested_size_is_not_changed(dtype: Any) -> None:
    pixels = stored(smooth(9, 11), dtype)
    np.testing.assert_array_equal(resize(pixels, 9, 11), pixels)


def test_16_bit_images_are_not_resized_in_8_bits() -> None:
    ramp = np.arange(40_000, 40_064, dtype=np.uint16).reshape(1, 64, 1).repeat(8, axis=0)
    assert len(np.unique(resize(ramp, 8, 32))) == 32


# ---- sizes


# Mode, (height, width), size in training, size in testing; load_size [16, 20], crop_size [12, 14].
SCALED = [
    ("resize_and_crop", (40, 60), (16, 20), (12, 14)),
    ("crop", (40, 60), (40, 60), (40, 60)),
    ("none", (41, 63), (40, 64), (41, 63)),
    ("none", (1, 1), (4, 4), (1, 1)),
    ("scale_width", (41, 60), (16, 20), (14, 20)),  # 41 * 20 / 60 = 13.7
    ("scale_width", (10, 60), (12, 20), (12, 20)),  # 3.3 would be lower than the crop.
    ("scale_width", (45, 30), (32, 20), (30, 20)),  # 30 / 4 = 7.5, rounded to even
    ("scale_width_and_crop", (40, 60), (13, 20), (12, 14)),  # 40 * 20 / 60; 40 * 14 / 60 = 9.3
    ("scale_width_and_crop", (60, 20), (60, 20), (42, 14)),
    ("scale_shortside_and_crop", (40, 60), (16, 24), (12, 18)),
    ("scale_shortside_and_crop", (40, 40), (20, 20), (14, 14)),
    ("scale_shortside_and_crop", (60, 40), (30, 20), (21, 14)),
]


@pytest.mark.parametrize(("mode", "size", "in_training", "otherwise"), SCALED)
def test_the_size_that_an_image_is_scaled_to(mode: Mode, size: Any, in_training: Any, otherwise: Any) -> None:
    for training, expected in ((True, in_training), (False, otherwise)):
        step = preprocess(mode, (16, 20), (12, 14), training=training)
        assert step.scaled_size(*size) == expected
        uncut = expected if mode in ("none", "scale_width") else (12, 14)
        if min(expected[0] - uncut[0], expected[1] - uncut[1]) >= 0:
            assert step(smooth(*size), 0).shape == (3, *uncut)


def test_all_modes_are_tested() -> None:
    assert {mode for mode, *_ in SCALED} == set(get_args(Mode))


@pytest.mark.parametrize("size", [(24, 16), (16, 24), (50, 31), (7, 9), (16, 16), (300, 20), (355, 32), (700, 1100)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["resize_and_crop", "scale_width_and_crop", "scale_shortside_and_crop"])
def test_every_image_gets_the_crop_size_and_keeps_its_type(mode: Mode, size: tuple[int, int], dtype: Any) -> None:
    for training in (True, False):
        image = preprocess(mode, training=training, flip=True)(stored(smooth(*size), dtype), 3)
        assert image.shape == (3, 12, 12)
        assert image.is_contiguous()
        assert str(image.dtype) == f"torch.{np.dtype(dtype).name}"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_result_does_not_share_memory_with_the_image(channels: int) -> None:
    pixels = smooth(12, 12, channels)
    pixels.flags.writeable = False  # Arrays from Pillow are read-only.
    image = preprocess("none")(pixels, 0)
    assert torch.equal(image, as_image(pixels))
    image.zero_()
    assert pixels.any()


@pytest.mark.parametrize(
    ("mode", "load", "crop", "fits"),
    [
        ("resize_and_crop", 16, 17, False),
        ("resize_and_crop", (16, 20), (16, 20), True),
        ("resize_and_crop", (16, 20), (17, 3), False),
        ("resize_and_crop", (16, 20), (3, 21), False),
        ("scale_shortside_and_crop", 16, 17, False),
        ("scale_width_and_crop", (16, 20), (99, 20), True),
        ("scale_width_and_crop", (16, 20), (3, 21), False),
        ("scale_width", 16, 17, True),
        ("crop", 16, 17, True),
        ("none", 16, 17, True),
    ],
)
def test_a_crop_larger_than_the_scaled_image_is_refused(mode: Mode, load: Size, crop: Size, fits: bool) -> None:
    if fits:
        preprocess(mode, load, crop)
        return
    with pytest.raises(ConfigError) as caught:
        preprocess(mode, load, crop)
    load, crop = (list(size) if isinstance(size, tuple) else size for size in (load, crop))
    assert str(caught.value) == f"data.crop_size ({crop}) must not exceed data.load_size ({load})"


def test_an_image_smaller_than_the_crop_is_refused_with_the_remedy() -> None:
    for training in (True, False):
        for size in ((11, 40), (40, 11)):
            with pytest.raises(
                ConfigError,
                match=rf"^a/b\.png \(\[{size[0]}, {size[1]}\] pixels\) is smaller than data\.crop_size \(\[12, 12\]\): "
                r".*data\.preprocess=resize_and_crop$",
            ):
                preprocess("crop", training=training)(smooth(*size), 0, name="a/b.png")
        assert preprocess("crop", training=training)(smooth(12, 12), 0).shape == (3, 12, 12)


def test_sizes_are_a_number_or_height_and_width() -> None:
    keys = {"preprocess": "resize_and_crop", "load_size": [16, 20], "crop_size": 12, "flip": False}
    made = construct(Preprocess, keys, key="data", training=True)
    assert made.scaled_size(5, 5) == (16, 20)
    for wrong in ([16], [16, 0], "16", 1.5):
        with pytest.raises(
            ConfigError, match=r"^data\.load_size: expected a whole number at least 1 and at most 65,536 or a"
        ):
            construct(Preprocess, {**keys, "load_size": wrong}, key="data", training=True)


# ---- chance


def windows(step: Preprocess, pixels: Pixels, count: int) -> list[Tensor]:
    return [step(pixels, seed) for seed in range(count)]


def place_of(window: Tensor, whole: Tensor) -> tuple[int, int]:
    """The only row and column at which ``whole`` contains ``window``."""
    height, width = window.shape[1:]
    places = whole.unfold(1, height, 1).unfold(2, width, 1)
    ((row, column),) = (places == window[:, None, None]).flatten(3).all(dim=3).all(dim=0).nonzero().tolist()
    return row, column


def test_crops_are_uniformly_distributed() -> None:
    pixels = smooth(14, 16)
    step = preprocess("crop", crop=(12, 13))
    places = Counter(place_of(window, as_image(pixels)) for window in windows(step, pixels, 1200))
    assert set(places) == {(row, column) for row in range(3) for column in range(4)}
    # 100 are expected at each of 12 positions, with a standard deviation of 10.
    assert min(places.values()) > 60
    assert max(places.values()) < 140


def test_half_are_flipped_independently_of_the_crop() -> None:
    pixels = smooth(14, 12)
    plain, flipped = preprocess("crop"), preprocess("crop", flip=True)
    outcomes: Counter[tuple[int, bool]] = Counter()
    for seed in range(600):
        window, mirrored = plain(pixels, seed), flipped(pixels, seed)
        assert torch.equal(mirrored, window) or torch.equal(mirrored, window.flip(-1))
        outcomes[place_of(window, as_image(pixels))[0], torch.equal(mirrored, window)] += 1
    # 100 are expected of each of 6, with a standard deviation of 9.
    assert len(outcomes) == 6
    assert min(outcomes.values()) > 60


def test_the_same_seed_crops_and_flips_images_of_one_size_alike() -> None:
    pixels = smooth(20, 30)
    step = preprocess("resize_and_crop", flip=True)
    for seed in range(100):
        # The image has 16 bits and one channel, its negative 8 bits and three.
        first, second = step(stored(pixels[..., :1], np.uint16), seed), step(255 - pixels, seed)
        difference = first.float()[0] / 257 - (255 - second.float()[0])
        assert difference.abs().max() <= 1
    assert torch.equal(step(pixels, 7), step(pixels, 7))


@pytest.mark.parametrize("mode", get_args(Mode))
def test_in_testing_the_center_is_cropped_without_flips(mode: Mode) -> None:
    pixels = smooth(22, 31)
    step = preprocess(mode, training=False, flip=True)
    expected = as_image(resize(pixels, *step.scaled_size(22, 31)))
    if mode not in ("none", "scale_width"):
        top, left = (expected.size(1) - 12) // 2, (expected.size(2) - 12) // 2
        expected = expected[:, top : top + 12, left : left + 12]
    assert all(torch.equal(image, expected) for image in windows(step, pixels, 20))


def test_the_center_can_be_cropped_in_training_too() -> None:
    pixels = smooth(22, 31)
    whole = as_image(resize(pixels, 16, 23))
    images = windows(preprocess("scale_shortside_and_crop"), pixels, 40)
    assert len({place_of(image, whole) for image in images}) > 20
    middle = Preprocess(
        preprocess="scale_shortside_and_crop", load_size=16, crop_size=12, flip=False, training=True, crop="center"
    )
    assert {place_of(image, whole) for image in windows(middle, pixels, 20)} == {(2, 5)}


def test_the_global_generator_of_torch_is_not_used() -> None:
    before = torch.get_rng_state()
    windows(preprocess("resize_and_crop", flip=True), smooth(20, 20), 3)
    assert torch.equal(torch.get_rng_state(), before)
