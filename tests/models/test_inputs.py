"""What a user gives to a trained model is refused with what is wanted."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import gantrain
from gantrain.errors import ConfigError


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (torch.zeros(1, 1, 32, 32), "(1, 1, 32, 32)"),
        (torch.zeros(1, 4, 32, 32), "(1, 4, 32, 32)"),
        (torch.zeros(3, 32, 32), "(3, 32, 32)"),
        (torch.zeros(1, 32, 32, 3), "(1, 32, 32, 3)"),
        (torch.zeros(1, 3, 0, 32), "(1, 3, 0, 32)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.float64), "torch.float64"),
        (np.zeros((1, 3, 32, 32), np.float32), "ndarray"),
        ("photo.jpg", "str"),
    ],
)
def test_images_that_can_not_be_translated(image: Any, got: str, trained) -> None:
    gan = gantrain.load(trained("cyclegan"))
    with pytest.raises(ConfigError, match=re.escape("(N, 3, height, width) as torch.float32")) as refused:
        gan.translate(image, "a_to_b")
    assert got in str(refused.value)


@pytest.mark.parametrize(
    ("latent", "labels", "wanted", "got"),
    [
        (torch.zeros(2, 7), None, "(N, 32) as torch.float32", "(2, 7)"),
        (torch.zeros(32), None, "(N, 32)", "(32,)"),
        (torch.zeros(2, 32, 1, 1), None, "(N, 32)", "(2, 32, 1, 1)"),
        (torch.zeros(2, 32).long(), None, "torch.float32", "torch.int64"),
        (64, None, "latents(N, seed=0)", "int"),
        (torch.zeros(2, 32), torch.tensor([1]), "labels (2,)", "(1,)"),
        (torch.zeros(2, 32), torch.tensor([1.0, 2.0]), "torch.int64", "torch.float32"),
        (torch.zeros(2, 32), torch.tensor([1, 10]), "0 to 9", "1 to 10"),
        (torch.zeros(2, 32), torch.tensor([-1, 1]), "0 to 9", "-1 to 1"),
        (torch.zeros(2, 32), [1, 2], "torch.int64", "list"),
    ],
)
def test_latents_and_labels_that_do_not_fit(latent: Any, labels: Any, wanted: str, got: str, trained) -> None:
    gan = gantrain.load(trained("cgan"))
    assert gan.latent_size == 32
    with pytest.raises(ConfigError) as refused:
        gan.sample(latent, labels)
    assert wanted in str(refused.value)
    assert got in str(refused.value)


def test_each_kind_of_model_names_the_method_of_the_other(trained) -> None:
    translator, generator = gantrain.load(trained("cyclegan")), gantrain.load(trained("dcgan"))
    for call in (lambda: translator.sample(torch.zeros(1, 9)), lambda: translator.latents(4, seed=0)):
        with pytest.raises(ConfigError, match="CycleGAN translates images .* use translate"):
            call()
    with pytest.raises(ConfigError, match="generates images from noise .* use sample"):
        generator.translate(torch.zeros(1, 3, 8, 8), "a_to_b")
