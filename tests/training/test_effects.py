"""Every key that a model's composed configuration shows changes what is built, or is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import MODELS, TINY, TRANSLATORS, newest
from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from torch import nn

import gantrain.training.build
from gantrain.cli.compose import Composed, complete, demo_data, hydra_settings
from gantrain.cli.main import main
from gantrain.config.overrides import RUNTIME_ONLY_GROUPS, RUNTIME_ONLY_KEYS, flatten
from gantrain.config.schema import construct, takes
from gantrain.config.settings import RunSettings, TrainerSettings
from gantrain.data.base import ImageSpec
from gantrain.data.images.transforms import Preprocess
from gantrain.data.settings import DataSettings
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS, SCHEDULES
from gantrain.registry import MODELS as REGISTERED
from gantrain.training.build import build_model, build_optimizer
from gantrain.training.effects import refuse_without_effect

NORMS = ["batch", "instance", "none", "spectral"]
CHOICES: dict[str, list[Any]] = {  # Other values of keys that are neither numbers nor switches, by their last word.
    "norm": NORMS,
    "init": ["default", "normal", "xavier", "kaiming", "orthogonal"],
    "order": ["conv_norm_act", "conv_act_norm"],
    "padding": ["reflection", "replicate", "zero"],
    "upsample": ["transposed", "resize"],
    "noise": ["normal", "uniform"],
    "loss": ["hinge", "minimax", "relativistic"],
    "cycle_loss": ["l1", "l2"],
    "betas": [[0.25, 0.9]],
    "milestones": [[0.25]],
    "direction": ["a_to_b", "b_to_a"],
    "depth": [6, "uint16"],  # A U-Net for 32 pixels has 5 levels by itself.
    "kernel": [3, 4],
    "stem": [5],
    "attention": [[16], [8]],
    "head": ["projection", "linear"],
    "augment": [["translation"], ["color"], "ada"],
}


def others(key: str, value: Any) -> Iterator[Any]:
    """Other values for a key, some of which it may refuse."""
    leaf = key.rpartition(".")[2]
    if leaf in CHOICES:
        candidates = CHOICES[leaf]
    elif isinstance(value, bool):
        candidates = [not value]
    elif isinstance(value, (int, float)):
        candidates = [value + 1 if isinstance(value, int) else value / 2 + 0.125]
    else:
        candidates = [1, "other"]
    yield from (candidate for candidate in candidates if candidate != value)


def spec_of(model: str) -> ImageSpec:
    keys = REGISTERED[model].needs
    domains = {"a": 3, "b": 3} if "a" in keys else {"image": 3 if model == "colorization" else 1}
    return ImageSpec(32, 32, domains, dict.fromkeys(domains, "uint8"), tuple("0123456789"))


def networks_of(config: dict[str, Any], overrides: list[str], preprocess: Preprocess | None = None) -> Any:
    """The layers and the initial weights of a model's networks, after the check for keys without effect."""
    torch.manual_seed(0)
    model = build_model(config, spec_of(config["model"]["name"]))
    refuse_without_effect(overrides, model, SimpleNamespace(preprocess=preprocess))  # type: ignore[arg-type]
    return repr(model), [float(weight.detach().double().abs().sum()) for weight in model.parameters()]


def built(config: dict[str, Any], overrides: list[str], group: str) -> Any:
    """What the keys of a group lead to: checked arguments, layers and weights."""
    if group == "network":
        return networks_of(config, overrides)
    if group == "model":
        return networks_of(config, overrides), config["model"]
    if group == "optimizer":
        network = [nn.Linear(1, 1)]
        sides = [
            build_optimizer(config["optimizer"], network, torch.device("cpu"), rate, scaled=False)
            for rate in ("lr", "discriminator_lr")
        ]
        return [{k: v for k, v in side.optimizer.param_groups[0].items() if k != "params"} for side in sides]
    if group == "schedule":
        return vars(SCHEDULES.build(config["schedule"]))
    if group == "trainer":
        return construct(TrainerSettings, config["trainer"], key="trainer")
    if group == "data":
        settings = DataSettings.split(config["data"])
        mode = settings.dataset["mode"]
        assert all(takes(DATASETS[mode], key) for key in settings.dataset.keys() - {"mode"})
        return settings
    return construct(RunSettings, config, key="")


def composed(*typed: str) -> tuple[DictConfig, Any]:
    """A configuration before its references are resolved, and Hydra's own."""
    typed = (*demo_data(list(typed), []), *typed)
    with hydra_settings([]):
        config = compose("train", [*typed, "name=run", "network_defaults.width=4"], return_hydra_config=True)
    with open_dict(config):
        own = config.pop("hydra")
    own.overrides.task = []
    return config, own


def outcome(config: DictConfig, own: Any, override: str = "") -> Any:
    """What a configuration with that override leads to, or the message that refuses it."""
    key = override.partition("=")[0]
    own.overrides.task = [override] if override else []
    try:
        plain = complete(Composed.of(config, own))
        return built(plain, own.overrides.task, key.partition(".")[0])
    except ConfigError as error:
        return str(error)


def walk(*typed: str) -> dict[str, list[str]]:
    """Every key of a configuration that is not run control, with those values that change nothing.

    A refusal has to name the key.
    """
    config, own = composed(*typed)
    shown = flatten(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    written = flatten(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    before: dict[str, Any] = {}
    for key, value in shown.items():
        if key in RUNTIME_ONLY_KEYS or key.startswith(RUNTIME_ONLY_GROUPS):
            continue
        group, _, leaf = key.partition(".")
        if group not in before:
            before[group] = built(complete(Composed.of(config, own)), [], group)
        if key in ("network.width", "network.norm", "network.dropout"):  # Its default, which networks need not follow.
            sides = {shown.get(f"network.{side}.{leaf}", value) for side in ("generator", "discriminator")}
            value = sides.pop() if len(sides) == 1 else value
        found[key] = []
        for other in others(key, value):
            override = f"{key}={other}"
            OmegaConf.update(config, key, other, merge=False)
            after = outcome(config, own, override)
            if after == before[group] or (isinstance(after, str) and key.rpartition(".")[2] not in after):
                found[key].append(f"{override}: {after if isinstance(after, str) else 'changes nothing'}")
        OmegaConf.update(config, key, written[key], merge=False)
        own.overrides.task = []
    return found


@pytest.mark.parametrize("model", sorted({*MODELS, *TRANSLATORS} - {"sngan", "fastcut"}))  # As sagan and cut.
def test_every_key_changes_what_is_built_or_is_refused_by_name(model: str) -> None:
    found = walk(f"model={model}", *(["data.root=images"] if model == "colorization" else []))
    assert len(found) > 30
    assert [fault for faults in found.values() for fault in faults] == []


@pytest.mark.parametrize(
    "typed",
    [
        "network.generator.norm=none network.generator.order=conv_act_norm",
        "network.discriminator.init=kaiming network.discriminator.init_gain=0.5",
        "network/generator=mlp network.generator.num_layers=1 network.generator.doubling=false",
        "network/generator=mlp network.generator.num_layers=0 network.generator.hidden=8",
        "network.generator.label_dim=4",
        "model=acgan network/discriminator=mlp network.discriminator.label_dim=4",
        "model=sngan data.load_size=32 network.discriminator.head=linear",
        "model=sagan data.load_size=32 network.generator.norm=spectral network.generator.spectral=false",
        "model=wgan model.warmup_critic_steps=0 model.warmup_steps=3",
        "model.r1_every=4",
        "model.ema=0 model.ema_rampup=0.1",
        "model.augment=[color] model.augment_target=0.5",
        "model=infogan model.continuous=0 model.lambda_continuous=0.5",
        "data=single data.root=images data.crop_size=16 data.preprocess=crop data.load_size=20",
        "data=single data.root=images data.crop_size=16 data.preprocess=none data.crop=center",
    ],
)
def test_a_key_that_others_leave_without_effect_is_refused(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    Image.new("RGB", (16, 16)).save("images/1.png")
    sizes = [word for word in TINY if "load_size" not in word or "data=" not in typed]
    assert main(["train", *sizes, *typed.split(), "dry_run=true"]) == 2
    message = capsys.readouterr().err
    assert f"{typed.split()[-1]} has no effect: " in message
    assert message.count("\n") == 1


def test_a_run_that_was_started_with_such_a_key_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["train", *TINY, "name=run", "network.generator.label_dim=4"]
    with monkeypatch.context() as earlier:
        earlier.setattr(gantrain.training.build, "refuse_without_effect", lambda *_: None)
        assert main([*typed, "trainer.steps=1"]) == 0
    assert main([*typed, "trainer.steps=2"]) == 0
    assert newest("run")["step"] == 2
    assert main([*typed, "trainer.steps=2", "resume=never"]) == 2


def test_a_critic_that_does_not_fit_its_loss_is_refused_before_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    for typed in (["model=wgan_gp", "network.discriminator.norm=batch"], ["model.loss=wasserstein"]):
        assert main(["train", *TINY, *typed, "name=run"]) == 2
        assert "network.discriminator.norm=" in capsys.readouterr().err
    assert not Path("checkpoints").exists()
    assert main(["train", *TINY, "model.r1=1", "dry_run=true"]) == 0
    assert "warning: model.r1=1 " in "".join(capsys.readouterr())
