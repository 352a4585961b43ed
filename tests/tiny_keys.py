"""Configurations of tiny models and networks."""

from __future__ import annotations

from typing import Any

from gantrain import models  # noqa: F401 - registers the models
from gantrain.data.base import ImageSpec

SPEC = ImageSpec(height=4, width=4, channels={"image": 1}, depth={"image": "uint8"}, class_names=("zero", "one", "two"))
LATENT_KEYS = {
    "latent_dim": 3,
    "noise": "normal",
    "loss": "logistic",
    "critic_steps": 1,
    "label_smoothing": 0.0,
    "gradient_penalty": 0.0,
    "r1": 0.0,
    "r2": 0.0,
    "r1_every": 1,
    "pool_size": 0,
    "ema": 0.0,
    "ema_rampup": 0.0,
    "augment": [],
    "augment_target": 0.6,
    "augment_every": 4,
    "augment_kimg": 500.0,
}
MLP_KEYS = {
    "num_classes": 0,
    "hidden": 5,
    "num_layers": 1,
    "doubling": True,
    "label_dim": 2,
    "dropout": 0.0,
    "norm": "none",
    "init": "default",
    "init_gain": 1.0,
}
DCGAN_KEYS = {
    "num_classes": 0,
    "width": 2,
    "extra_layers": 0,
    "norm": "batch",
    "order": "conv_norm_act",
    "init": "normal",
    "init_gain": 0.02,
}
# Of models that translate: image pairs, and colour images.
PAIRS = ImageSpec(height=32, width=32, channels={"a": 2, "b": 2}, depth={"a": "uint8", "b": "uint8"})
IMAGES = ImageSpec(height=32, width=32, channels={"image": 3}, depth={"image": "uint8"})
UNUSED_SWITCHES: dict[str, Any] = {
    "label_smoothing": 0.0,
    "gradient_penalty": 0.0,
    "r1": 0.0,
    "r2": 0.0,
    "r1_every": 1,
    "ema": 0.0,
    "ema_rampup": 0.0,
    "augment": [],
    "augment_target": 0.6,
    "augment_every": 4,
    "augment_kimg": 500.0,
}
PIX2PIX_KEYS = {"loss": "logistic", "lambda_l1": 100.0, "lambda_features": 0.0, "lambda_lpips": 0.0, **UNUSED_SWITCHES}
TRANSLATION_KEYS: dict[str, dict[str, Any]] = {
    "pix2pix": PIX2PIX_KEYS,
    "colorization": PIX2PIX_KEYS,
    "cyclegan": {
        "loss": "least_squares",
        "lambda_a": 10.0,
        "lambda_b": 7.0,  # Unlike lambda_a, so that exchanging them is detected.
        "lambda_identity": 0.5,
        "cycle_loss": "l1",
        "pool_size": 0,
        "lambda_features": 0.0,
        **UNUSED_SWITCHES,
    },
    "cut": {
        "loss": "least_squares",
        "lambda_nce": 2.0,
        "nce_idt": True,
        "nce_layers": [0, 4, 8],
        "nce_temperature": 0.07,
        "num_patches": 100,  # The last layer has 64.
        "flip_equivariance": True,
        "head_width": 6,
        "head_init_gain": 0.02,
        "pool_size": 0,
        **UNUSED_SWITCHES,
    },
}
CONV_KEYS = {"width": 4, "norm": "instance", "init": "default", "init_gain": 1.0}
RESNET_KEYS = {  # In the order of the constructor, as in a configuration that ``init_from`` adopts.
    "width": 4,
    "blocks": 1,
    "downsamplings": 2,
    "kernel": 3,
    "stem": 7,
    "padding": "reflection",
    "dropout": 0.0,
    "norm": "instance",
    "upsample": "transposed",
    "antialias": False,
    "init": "default",
    "init_gain": 1.0,
}
UNET_KEYS = {  # In the order of the constructor, too.
    "width": 4,
    "depth": None,
    "dropout": 0.0,
    "skips": True,
    "norm": "instance",
    "upsample": "transposed",
    "init": "default",
    "init_gain": 1.0,
}
RESNET_GAN_KEYS = {"width": 2, "attention": [], "norm": "batch", "init": "xavier", "init_gain": 1.0}
# Of every registered network, without the runtime arguments.
NETWORK_KEYS: dict[str, dict[str, dict[str, Any]]] = {
    "generator": {
        "dcgan": {key: value for key, value in DCGAN_KEYS.items() if key != "num_classes"} | {"label_dim": 2},
        "mlp": {key: value for key, value in MLP_KEYS.items() if key != "num_classes"},
        "resnet": RESNET_KEYS,
        "resnet_gan": {**RESNET_GAN_KEYS, "spectral": False},
        "unet": UNET_KEYS,
        "unet_resize": {**CONV_KEYS, "depth": 2, "dropout": 0.0},
    },
    "discriminator": {
        "dcgan": {key: value for key, value in DCGAN_KEYS.items() if key != "num_classes"} | {"dropout": 0.0},
        "mlp": {key: value for key, value in MLP_KEYS.items() if key != "num_classes"},
        "patchgan": {**CONV_KEYS, "layers": 2, "scales": 1, "antialias": False},
        "patchgan_textbook": CONV_KEYS,
        "pixelgan": CONV_KEYS,
        "resnet_gan": {**RESNET_GAN_KEYS, "head": "projection"},
    },
}
# Of every registered model from noise, in addition to ``LATENT_KEYS``.
WGAN_KEYS = {"loss": "wasserstein", "clip": 0.3, "warmup_critic_steps": 0, "warmup_steps": 0, "warmup_every": 0}
OWN_KEYS: dict[str, dict[str, Any]] = {
    "gan": {},
    "dcgan": {},
    "lsgan": {"loss": "least_squares"},
    "wgan": WGAN_KEYS,
    "wgan_gp": {"loss": "wasserstein", "gradient_penalty": 10.0},
    "cgan": {},
    "acgan": {"lambda_class": 0.5, "classify_generated": True},
    "sgan": {"lambda_class": 1.0, "critic_lambda_class": 1.0},
    "infogan": {"categories": 3, "continuous": 2, "lambda_categorical": 0.5, "lambda_continuous": 0.1},
}
LABELLED = ["cgan", "acgan", "sgan"]
