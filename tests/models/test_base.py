"""What a model may leave out and what it may override."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from foreign_models import LABELLED_IMAGES, add, batches_of, config, networks, updates_for
from tiny import (
    CPU,
    Watched,
    build,
    build_translator,
    image_batches,
    play,
)
from torch import Tensor, nn

from gantrain.cli.main import main
from gantrain.data.base import Batch, ImageSpec
from gantrain.errors import ConfigError
from gantrain.models.base import GAN, LatentGAN
from gantrain.optim.updates import Updates
from gantrain.registry import MODELS, REGISTRIES
from gantrain.training.build import build_model, build_optimizer

# ---- a minimal model


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


def test_a_minimal_model_trains_and_has_no_images(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Modules in the working directory can be imported as plug-ins, and are unregistered after the test."""
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
