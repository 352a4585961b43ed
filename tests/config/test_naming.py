"""Names of sweeps and of their runs."""

from __future__ import annotations

import pytest

from gantrain.config.naming import name_of_sweep
from gantrain.errors import ConfigError


def test_a_sweep_is_named_after_its_varied_and_fixed_settings() -> None:
    assert name_of_sweep([], ["seed", "model"]) == "model+seed"
    assert (
        name_of_sweep(["model=wgan", "trainer.steps=5", "optimizer.lr=1e-4"], ["seed"])
        == "wgan_seed_optimizer.lr-0.0001"
    )
    assert name_of_sweep(["experiment=gan_mnist"], ["network/generator"]) == "gan_mnist_network_generator"
    assert name_of_sweep([], []) == "sweep"


@pytest.mark.parametrize(
    ("fixed", "swept", "wanted"),
    [
        (["name=x"], ["seed"], "name='x_${seed}'"),
        ([], ["trainer.steps"], "name='x_${trainer.steps}'"),
        ([], ["logger"], "name='x_${hydra:runtime.choices.logger}'"),
        ([], ["seed", "logger.visdom.port"], "name='x_${logger.visdom.port}'"),
    ],
)
def test_runs_that_would_share_a_folder_are_refused(fixed: list[str], swept: list[str], wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        name_of_sweep(fixed, swept)
    assert wanted in str(refused.value)
    name_of_sweep([wanted], swept)
    name_of_sweep(fixed, [*swept, "name"])
