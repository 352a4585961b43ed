"""What a model may leave out, what it may override, and the networks that it can be combined with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from tiny import (
    CPU,
    IMAGES,
    LABELLED,
    LATENT_KEYS,
    NETWORK_KEYS,
    OWN_KEYS,
    PAIRS,
    TRANSLATION_KEYS,
    Watched,
    build,
    build_translator,
    image_batches,
    play,
    translation_batches,
    updates_of,
)
from torch import Tensor, nn

from gantrain.cli.main import main
from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.base import GAN, LatentGAN
from gantrain.optim.optimizers import SGD
from gantrain.optim.updates import Updates
from gantrain.registry import DISCRIMINATORS, GENERATORS, MODELS, REGISTRIES, Registry
from gantrain.training.build import build_model, build_optimizer

LABELLED_IMAGES = ImageSpec(32, 32, {"image": 3}, {"image": "uint8"}, class_names=("zero", "one", "two"))
MODEL_KEYS = {**{name: {**LATENT_KEYS, **keys} for name, keys in OWN_KEYS.items()}, **TRANSLATION_KEYS}


def config(model: dict[str, Any], generator: dict[str, Any], discriminator: dict[str, Any]) -> dict[str, Any]:
    sides = {"generator": generator, "discriminator": discriminator}
    return {"model": model, "network": {**sides, "width": 4, "norm": "none", "dropout": 0.0}}


def networks(side: str) -> list[dict[str, Any]]:
    return [{"name": name, **keys} for name, keys in NETWORK_KEYS[side].items()]


def spec_of(model: str) -> ImageSpec:
    return LABELLED_IMAGES if model in OWN_KEYS else IMAGES if model == "colorization" else PAIRS


def batches_of(model: str) -> Iterator[Batch]:
    for batch in translation_batches(2, spec=spec_of(model)):
        batch |= {"label": torch.tensor([0, 2])} if model in LABELLED else {}
        yield {
            key: value.float() if isinstance(value, Tensor) and key != "label" else value
            for key, value in batch.items()
        }


def updates_for(model: GAN) -> Updates:
    sides = (model.generators(), model.discriminators())
    optimizers = [
        SGD(
            params=[weight for network in side for weight in network.parameters()],
            fused=False,
            lr=1e-4,
            momentum=0.0,
            weight_decay=0.0,
        )
        for side in sides
    ]
    return updates_of(*optimizers)


# ---- every model with every network


def test_the_table_has_all_models_and_networks() -> None:
    tables = {MODELS: MODEL_KEYS, GENERATORS: NETWORK_KEYS["generator"], DISCRIMINATORS: NETWORK_KEYS["discriminator"]}
    for registry, table in tables.items():
        assert list(registry) == sorted(table)


def lacking(model: str, generator: str, discriminator: str) -> tuple[str, str, str] | None:
    """The network, the argument that it lacks, and the networks that have it."""
    latent = model in OWN_KEYS
    if latent != (generator in ("dcgan", "mlp")):
        argument, able = ("latent_dim", "dcgan, mlp") if latent else ("input_shape", "resnet, unet, unet_resize")
        return f"network/generator={generator}", argument, able
    wants = {"cgan": "num_classes", "acgan": "num_outputs", "sgan": "num_outputs", "infogan": "num_outputs"}
    if model in wants and discriminator not in ("dcgan", "mlp"):
        return f"network/discriminator={discriminator}", wants[model], "dcgan, mlp"
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
            assert message.startswith(f"{network}: model={model} needs a ")
            assert f" takes {argument} " in message
            assert message.endswith(f"; these do: {able}")
            refused += 1
    assert trained + refused == 25
    assert trained >= 4


class Fixed(nn.Module):
    """A foreign network that has no key but its own, and takes no labels."""

    def __init__(self, *, shape: tuple[int, int, int], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(shape[0] * shape[1] * shape[2], 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.scale * self.linear(image.flatten(1))


class FixedGenerator(nn.Module):
    """The same as a generator."""

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


def add(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], name: str, cls: type) -> None:
    monkeypatch.setattr(registry, "_classes", {**registry._classes, name: cls})


@pytest.mark.parametrize("model", sorted(OWN_KEYS))
@pytest.mark.usefixtures("foreign")
def test_networks_from_outside_train_or_are_refused_by_name(model: str) -> None:
    whole = config({"name": model, **MODEL_KEYS[model]}, {"name": "fixed"}, {"name": "fixed", "scale": 0.5})
    if model in LABELLED:
        with pytest.raises(
            ConfigError, match=f"^network/generator=fixed: model={model} .* num_classes .*: dcgan, mlp$"
        ):
            build_model(whole, spec_of(model))
    elif model == "infogan":
        with pytest.raises(
            ConfigError, match="^network/discriminator=fixed: model=infogan .* num_outputs .*: dcgan, mlp$"
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


# ---- a bare model


class Bare(GAN):
    def __init__(self, *, spec: ImageSpec, make_generator: Any, make_discriminator: Any) -> None:
        super().__init__()
        self.generator = make_generator(latent_dim=2, shape=spec.shape("image"))
        self.discriminator = make_discriminator(shape=spec.shape("image"))

    def train_step(self, batches: Iterator[Batch], update: Updates) -> dict[str, Tensor]:
        real = next(batches)["image"]
        fake = self.generator(update.draws.normal(len(real), 2))
        loss = (self.discriminator(real) - self.discriminator(fake.detach())).mean()
        update.discriminator(loss)
        update.generator(self.discriminator(fake).mean())
        return {"d": loss.detach()}


class Networkless(Bare):
    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        del self.discriminator


class Stepless(GAN):
    pass


def bare(monkeypatch: pytest.MonkeyPatch, cls: type) -> GAN:
    add(monkeypatch, MODELS, "bare", cls)
    return build_model(
        config({"name": "bare"}, networks("generator")[1], networks("discriminator")[1]), LABELLED_IMAGES
    )


def test_a_bare_model_trains_and_has_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bare(monkeypatch, Bare)
    assert (model.ema, model.needs, model.previews, model.evaluate([])) == (0, frozenset(), 0, {})
    assert model.generators() == [model.generator]
    assert model.discriminators() == [model.discriminator]
    assert len(play(model, batches_of("gan"), updates_for(model), steps=2)) == 2
    assert model.visuals({}) == model.visuals({}) == {}


def test_a_model_without_a_network_or_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^model=bare: no parameters to train in discriminators\(\)"):
        bare(monkeypatch, Networkless)
    with pytest.raises(ConfigError, match="^model=bare: Stepless has to define train_step$"):
        bare(monkeypatch, Stepless)


MINE = """
import torch
from torch import nn
from gantrain.models.base import GAN
from gantrain.registry import DISCRIMINATORS, MODELS, OPTIMIZERS

@DISCRIMINATORS.register("mine")
class Critic(nn.Module):
    def __init__(self, *, shape: tuple[int, int, int], size: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(size), nn.ReLU(), nn.Linear(size, 1))
        self.layers(torch.zeros(1, *shape))

    def forward(self, image):
        return self.layers(image)

@OPTIMIZERS.register("mine")
class Plain(torch.optim.SGD):
    def __init__(self, *, params, lr: float):
        super().__init__(params, lr=lr)

@MODELS.register("mine")
class Mine(GAN):
    def __init__(self, *, spec, make_generator, make_discriminator):
        super().__init__()
        self.generator = make_generator(latent_dim=3, shape=spec.shape("image"))
        self.discriminator = make_discriminator(shape=spec.shape("image"))

    def train_step(self, batches, update):
        real = next(batches)["image"]
        fake = self.generator(update.draws.normal(len(real), 3))
        update.discriminator((self.discriminator(fake.detach()) - self.discriminator(real)).mean())
        loss = -self.discriminator(fake).mean()
        update.generator(loss)
        return {"g": loss.detach()}
"""


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules in the working directory can be imported as plug-ins, and leave nothing behind."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "mine", None)
    monkeypatch.delitem(sys.modules, "mine")


@pytest.mark.usefixtures("plugins")
def test_a_plugins_model_network_and_optimizer_train_from_yaml_files(capsys) -> None:
    Path("mine.py").write_text(MINE)
    for group, text in {
        "model": "# @package _global_\nmodel:\n  name: mine\n",
        "network/discriminator": "name: mine\nsize: 4\n",
        "optimizer": "name: mine\nlr: 1e-3\n",
    }.items():
        Path("conf", group).mkdir(parents=True)
        Path("conf", group, "mine.yaml").write_text(text)
    typed = ["train", "--config-dir", "conf", *TINY, "plugins=[mine]", "trainer.steps=2", "trainer.image_every=1"]
    typed += ["network/discriminator=mine", "optimizer=mine"]
    assert main([*typed, "model=mine", "network/generator=mlp", "name=mine"]) == 0
    error = capsys.readouterr().err
    assert error.count("no images to show") == 1
    assert Path("checkpoints/mine/losses.jsonl").read_text()
    for model in ("gan", "wgan_gp"):
        assert main([*typed, f"model={model}", f"name={model}"]) == 0, capsys.readouterr().err


# ---- optimizers


def test_an_optimizer_without_a_discriminators_rate_uses_one_for_both() -> None:
    keys = {"name": "sgd", "lr": 0.25, "momentum": 0.0, "weight_decay": 0.0}
    side = build_optimizer(keys, [nn.Linear(2, 2)], CPU, "discriminator_lr", scaled=False)
    assert side.rate == 0.25
    side = build_optimizer({**keys, "discriminator_lr": 0.5}, [nn.Linear(2, 2)], CPU, "discriminator_lr", scaled=False)
    assert side.rate == 0.5
    with pytest.raises(ConfigError, match="^optimizer.lr is missing$"):
        build_optimizer({"name": "sgd"}, [nn.Linear(2, 2)], CPU, "lr", scaled=False)


# ---- penalties


def test_a_penalty_is_added_by_overriding_one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build("gan", r1=3.0)
    added = build("gan", r1=3.0)

    def penalties(*inputs: Any) -> dict[str, Tensor]:
        return {**LatentGAN.penalties(added, *inputs), "size": added.discriminator(inputs[1]).square().mean()}

    monkeypatch.setattr(added, "penalties", penalties)
    (before,), (after,) = (Watched(model) for model in (plain,)), (Watched(model) for model in (added,))
    (logged,) = play(plain, image_batches(), before, steps=1)
    (more,) = play(added, image_batches(), after, steps=1)
    assert more.keys() - logged.keys() == {"size"}
    assert more["size"] > 0
    assert more["r1"] == logged["r1"]
    losses = dict(before.losses), dict(after.losses)
    assert float(losses[1]["discriminator"] - losses[0]["discriminator"]) == pytest.approx(more["size"])


def test_a_translators_penalty_is_added_by_overriding_one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_translator("pix2pix")
    images = torch.zeros(1, 4, 32, 32, dtype=torch.float64)
    plain, _ = model.discriminator_loss(model.discriminator, images, images, Watched(model).draws)
    monkeypatch.setattr(model, "penalties", lambda *inputs: {"mine": torch.tensor(2.0)})
    loss, parts = model.discriminator_loss(model.discriminator, images, images, Watched(model).draws)
    assert float((loss - plain).detach()) == pytest.approx(2)
    assert parts["mine"] == 2


def test_a_critic_under_its_old_name_is_penalised() -> None:
    with pytest.warns(DeprecationWarning, match="Old.judge is now penalty_critic"):

        class Old(LatentGAN):
            def judge(self, real: Batch) -> Any:
                return lambda images: 7 * images.flatten(1).sum(dim=1)

    model = Old.__new__(Old)
    assert model.penalty_critic({})(torch.ones(2, 1, 1, 1)).tolist() == [7, 7]
