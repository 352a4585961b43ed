"""Every model with every network, and with networks of plug-ins."""

from __future__ import annotations

import pytest
from foreign_models import add, batches_of, config, networks, spec_of, updates_for
from tiny import play
from tiny_keys import LABELLED, LATENT_KEYS, NETWORK_KEYS, OWN_KEYS, TRANSLATION_KEYS
from torch import Tensor, nn

from gantrain.errors import ConfigError
from gantrain.registry import DISCRIMINATORS, GENERATORS, MODELS
from gantrain.training.build import build_model

MODEL_KEYS = {**{name: {**LATENT_KEYS, **keys} for name, keys in OWN_KEYS.items()}, **TRANSLATION_KEYS}


def test_the_tables_contain_all_models_and_networks() -> None:
    tables = {MODELS: MODEL_KEYS, GENERATORS: NETWORK_KEYS["generator"], DISCRIMINATORS: NETWORK_KEYS["discriminator"]}
    for registry, table in tables.items():
        assert list(registry) == sorted(table)


def lacking(model: str, generator: str, discriminator: str) -> tuple[str, str, str] | None:
    """The network, the argument that it lacks, and the networks that have it."""
    latent = model in OWN_KEYS
    if latent != (generator in ("dcgan", "mlp", "resnet_gan")):
        argument, able = (
            ("latent_dim", "dcgan, mlp, resnet_gan") if latent else ("input_shape", "resnet, unet, unet_resize")
        )
        return f"network/generator={generator}", argument, able
    if model == "cut" and generator != "resnet":
        return f"network/generator={generator}", "features", "resnet"
    wants = {"cgan": "num_classes", "acgan": "num_outputs", "sgan": "num_outputs", "infogan": "num_outputs"}
    if model in wants and discriminator not in ("dcgan", "mlp", "resnet_gan"):
        return f"network/discriminator={discriminator}", wants[model], "dcgan, mlp, resnet_gan"
    return None


@pytest.mark.parametrize("model", sorted(MODEL_KEYS))
def test_each_combination_of_networks_trains_or_is_refused_by_name(model: str) -> None:
    trained = refused = 0
    for generator in networks("generator"):
        for discriminator in networks("discriminator"):
            whole = config({"name": model, **MODEL_KEYS[model]}, generator, discriminator)
            names = generator["name"], discriminator["name"]
            reason = lacking(model, *names)
            if reason is None:
                built = build_model(whole, spec_of(model))
                (losses,) = play(built, batches_of(model), updates_for(built), steps=1)
                assert all(value == value for value in losses.values()), names
                trained += 1
                continue
            with pytest.raises(ConfigError) as error:
                build_model(whole, spec_of(model))
            network, argument, able = reason
            message = str(error.value)
            refused += 1
            if argument == "features":
                assert message.startswith("network/generator: model=cut ")
                assert message.endswith("has no method `features`; resnet has")
                continue
            assert message.startswith(f"{network}: model={model} needs a ")
            assert f" takes {argument} " in message
            assert message.endswith(f"; these do: {able}")
    assert trained + refused == 36
    assert trained >= 4


class Fixed(nn.Module):
    """A discriminator of a plug-in, which takes no labels."""

    def __init__(self, *, shape: tuple[int, int, int], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(shape[0] * shape[1] * shape[2], 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.scale * self.linear(image.flatten(1))


class FixedGenerator(nn.Module):
    """A generator of a plug-in, which takes no labels."""

    def __init__(self, *, latent_dim: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(latent_dim, shape[0] * shape[1] * shape[2])

    def forward(self, latent: Tensor) -> Tensor:
        return self.linear(latent).tanh().view(-1, *self.shape)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers both under the name ``fixed``."""
    add(monkeypatch, DISCRIMINATORS, "fixed", Fixed)
    add(monkeypatch, GENERATORS, "fixed", FixedGenerator)


@pytest.mark.parametrize("model", sorted(OWN_KEYS))
@pytest.mark.usefixtures("foreign")
def test_networks_from_outside_train_or_are_refused_by_name(model: str) -> None:
    whole = config({"name": model, **MODEL_KEYS[model]}, {"name": "fixed"}, {"name": "fixed", "scale": 0.5})
    if model in LABELLED:
        with pytest.raises(
            ConfigError, match=f"^network/generator=fixed: model={model} .* num_classes .*: dcgan, mlp, resnet_gan$"
        ):
            build_model(whole, spec_of(model))
    elif model == "infogan":
        with pytest.raises(
            ConfigError, match="^network/discriminator=fixed: model=infogan .* num_outputs .*: dcgan, mlp, resnet_gan$"
        ):
            build_model(whole, spec_of(model))
    else:
        built = build_model(whole, spec_of(model))
        assert len(play(built, batches_of(model), updates_for(built), steps=2)) == 2
        assert built.visuals({})["samples"].shape == (100, 3, 32, 32)


@pytest.mark.usefixtures("foreign")
def test_a_typed_key_that_a_network_lacks_is_refused_as_typed() -> None:
    whole = config({"name": "gan", **MODEL_KEYS["gan"]}, {"name": "fixed"}, {"name": "fixed", "scale": 1, "dropout": 0})
    with pytest.raises(ConfigError, match="^network.discriminator.dropout=0: unknown key"):
        build_model(whole, spec_of("gan"))
