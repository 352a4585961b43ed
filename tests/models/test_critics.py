"""Losses and penalties are refused over critics for which they are wrong."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tiny import CPU, Watched, build, build_translator, mlp_discriminator, translation_batches
from tiny_keys import CONV_KEYS, LATENT_KEYS, OWN_KEYS, TRANSLATION_KEYS
from torch import nn

from gantrain.errors import ConfigError
from gantrain.models.critics import check_batch_norm, check_compile, check_critic, check_micro_batch
from gantrain.networks.common import set_precision
from gantrain.networks.patchgan import PixelGANDiscriminator

TRANSLATORS = list(TRANSLATION_KEYS)
NOISE = list(OWN_KEYS)


def pixelgan(**keys: Any) -> PixelGANDiscriminator:
    return PixelGANDiscriminator(**{**CONV_KEYS, **keys})


def model_of(name: str, *, norm: str = "none", **keys: Any) -> Any:
    """The model of that name whose critics have that norm."""
    if name in TRANSLATORS:
        return build_translator(name, norm=norm, **keys)
    model = build(name, **OWN_KEYS[name] | keys)
    model.discriminator = mlp_discriminator(norm=norm)
    return model


def check(name: str, *, batch_size: int = 4, **keys: Any) -> list[str]:
    loss = ({**LATENT_KEYS, **OWN_KEYS.get(name, {}), **TRANSLATION_KEYS.get(name, {})} | keys)["loss"]
    return check_critic(model_of(name, **keys), loss=loss, batch_size=batch_size)


@pytest.mark.parametrize("name", [*NOISE, *TRANSLATORS])
def test_a_gradient_penalty_is_refused_over_batch_norm_alone(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.gradient_penalty=3 .*batch norm.*network\.discriminator\.norm=none"):
        check(name, norm="batch", gradient_penalty=3.0)
    assert check(name, norm="batch", gradient_penalty=3.0, batch_size=1) == []  # Nothing is mixed.
    assert check(name, norm="batch", loss="logistic", gradient_penalty=0.0) == []
    for norm in ("none", "spectral", *(["instance"] if name in TRANSLATORS else [])):
        assert check(name, norm=norm, gradient_penalty=3.0) == []


def test_synchronised_batch_norm_mixes_the_images_of_ranks() -> None:
    model = model_of("dcgan", norm="sync_batch", gradient_penalty=3.0)
    for batch_size, ranks in ((1, 2), (2, 1)):
        with pytest.raises(ConfigError, match=r"model\.gradient_penalty=3 .*batch norm"):
            check_critic(model, loss="logistic", batch_size=batch_size, world_size=ranks)
    assert check_critic(model, loss="logistic", batch_size=1, world_size=1) == []
    alone = model_of("dcgan", norm="batch", gradient_penalty=3.0)
    assert check_critic(alone, loss="logistic", batch_size=1, world_size=2) == []


def test_batch_norm_of_vectors_is_refused_for_one_image() -> None:
    for norm, images, ranks, is_refused in (
        ("batch", 1, 1, True),
        ("batch", 1, 2, True),
        ("batch", 2, 1, False),
        ("sync_batch", 1, 1, True),
        ("sync_batch", 1, 2, False),
        ("none", 1, 1, False),
    ):
        model = model_of("lsgan", norm=norm)
        with pytest.raises(ConfigError, match="at least two images") if is_refused else nullcontext():
            check_batch_norm(model, images=images, world_size=ranks)
    check_batch_norm(build_translator("pix2pix", norm="batch"), images=1, world_size=1)  # Means are over places, too.


def test_pairs_of_a_history_of_other_classes_are_warned_of() -> None:
    (warning,) = check("cgan", loss="relativistic", pool_size=4)
    assert "model.pool_size=0" in warning
    for keys in ({"loss": "relativistic"}, {"pool_size": 4}):
        assert check("cgan", **keys) == []
    assert check("dcgan", loss="relativistic", pool_size=4) == []


@pytest.mark.parametrize("name", [name for name in TRANSLATORS if "lambda_features" in TRANSLATION_KEYS[name]])
def test_feature_matching_is_refused_without_feature_maps(name: str) -> None:
    model = build_translator(name, discriminator=pixelgan, lambda_features=10.0)
    for use in (
        lambda: check_critic(model, loss="logistic", batch_size=1),
        lambda: model.train_step(translation_batches(1, spec=model.spec), Watched(model)),  # Of a resumed run.
    ):
        with pytest.raises(ConfigError, match=r"model\.lambda_features .*PixelGAN.*network/discriminator=patchgan"):
            use()
    assert check(name, lambda_features=10.0) == []


@pytest.mark.parametrize("name", NOISE)
def test_r1_over_batch_norm_is_warned_of(name: str) -> None:
    (warning,) = check(name, norm="batch", loss="logistic", gradient_penalty=0.0, r1=2.0)
    assert "model.r1=2 " in warning
    assert "network.discriminator.norm=none" in warning
    assert check(name, norm="none", loss="logistic", gradient_penalty=0.0, r1=2.0) == []


@pytest.mark.parametrize("name", [*NOISE, *TRANSLATORS])
def test_a_wasserstein_critic_has_to_be_bounded(name: str) -> None:
    off = {"loss": "wasserstein", "gradient_penalty": 0.0} | ({"clip": 0.0} if name == "wgan" else {})
    for norm in ("none", "batch"):
        with pytest.raises(ConfigError, match=r"model\.loss=wasserstein .*model\.gradient_penalty=10 .*norm=spectral"):
            check(name, norm=norm, **off)
    bounded: list[dict[str, Any]] = [{"norm": "spectral"}, {"gradient_penalty": 10.0}]
    bounded += [{"r1": 1.0}] if name in NOISE else []
    bounded += [{"clip": 0.01, "norm": "batch"}] if name == "wgan" else []
    for keys in bounded:
        assert check(name, **off | keys) == []


def test_one_layer_without_spectral_norm_leaves_the_critic_unbounded() -> None:
    model = model_of("dcgan", norm="spectral", loss="wasserstein")
    model.discriminator.layers.append(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=r"model\.loss=wasserstein"):
        check_critic(model, loss="wasserstein", batch_size=4)


@pytest.mark.parametrize(
    ("model", "mentioned"),
    [
        (build_translator("cyclegan", lambda_features=10.0), "model.lambda_features"),
        (build_translator("pix2pix", norm="batch"), "network.norm=instance"),
        (model_of("lsgan", norm="spectral"), "spectral norm"),
        (build_translator("pix2pix", dropout=0.5), "network.dropout=0"),
    ],
)
def test_what_micro_batches_change_is_warned_of(model: Any, mentioned: str) -> None:
    (warning,) = check_micro_batch(model, 2, 4)
    assert "trainer.micro_batch=2" in warning
    assert mentioned in warning
    assert check_micro_batch(model, 4, 4) == check_micro_batch(model, None, 4) == []


def test_micro_batches_that_change_nothing_are_not_warned_of() -> None:
    for model in (build_translator("cyclegan"), build_translator("pix2pix", lambda_features=10.0)):
        assert check_micro_batch(model, 2, 4) == []


def test_networks_with_spectral_norm_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda forward: seen.append(forward) or forward)
    model = model_of("lsgan", norm="spectral")
    (warning,) = check_compile(model)
    assert "trainer.compile=true does not compile the discriminator" in warning
    forward = model.generator.forward
    for network in (model.generator, model.discriminator):
        set_precision(network, device=CPU, autocast=None, compiled=True)
    assert seen == [forward]
    assert check_compile(build_translator("cyclegan")) == []
