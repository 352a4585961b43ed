"""Names of runs, of sweeps and of their runs."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path

import pytest

from gantrain.config.naming import name_of_run, name_of_sweep, old_run_name, run_name
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


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "dcgan_digits"),
        (["trainer.steps=5", "data.num_workers=2", "resume=never"], "dcgan_digits"),
        (["optimizer.lr=1e-4"], "dcgan_digits_optimizer.lr-0.0001"),
        (["seed=1", "model=dcgan", "data=digits"], "dcgan_digits_seed-1"),
        (["network/generator=mlp"], "dcgan_digits_network_generator-mlp"),
    ],
)
def test_a_run_is_named_after_settings_that_change_the_result(overrides: list[str], name: str) -> None:
    assert run_name("dcgan_digits", overrides) == name


def test_the_order_of_the_overrides_does_not_change_the_name() -> None:
    overrides = ["seed=1", "optimizer.lr=1e-4", "model.ema=0.5", "data.root=photos"]
    assert len({run_name("dcgan_digits", order) for order in permutations(overrides)}) == 1


def test_an_experiment_with_other_choices_has_another_name() -> None:
    names = [
        run_name("dcgan_cifar10", ["experiment=dcgan_cifar10", *more]) for more in ([], ["model=lsgan"], ["data=x"])
    ]
    assert names == ["dcgan_cifar10", "dcgan_cifar10_model-lsgan", "dcgan_cifar10_data-x"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["optimizer.lr=1e-4", "network.generator.upsample=resize"], "dcgan_digits_upsample-resize_lr-0.0001"),
        ([f"model.a{n}=1" for n in range(20)], "dcgan_digits_a0-1_a1-1_a10-1_a11-1_a12-1_a13-1_a14-1"),
        (["data.root=/images/of/a/very/" + 70 * "x"], "dcgan_digits"),
    ],
)
def test_a_long_name_is_shortened_to_whole_words(overrides: list[str], name: str) -> None:
    found = run_name("dcgan_digits", overrides)
    assert found[:-7] == name
    assert re.fullmatch("_[0-9a-f]{6}", found[-7:])
    assert len(found) < 60


def test_a_run_with_a_name_of_an_older_version_keeps_it(tmp_path: Path) -> None:
    overrides = [f"model.a{n}=1" for n in range(9)]
    old = old_run_name("dcgan_digits", overrides)
    assert old == "dcgan_digits" + "".join(f"_model.a{n}-1" for n in range(9))
    choices = {"model": "dcgan", "data": "digits"}
    new = name_of_run(overrides, choices, tmp_path)
    assert new == run_name("dcgan_digits", overrides)
    (tmp_path / old).mkdir()
    assert name_of_run(overrides, choices, tmp_path) == old
    (tmp_path / new).mkdir()
    assert name_of_run(overrides, choices, tmp_path) == new


def test_names_need_no_quoting_and_do_not_collide() -> None:
    variants = [
        ["data.root=/home/me/a b"],
        ["data.root=/home/you/a b"],
        ["optimizer.betas=[0.5,0.9]"],
        ["optimizer.betas=[0.5,0.99]"],
        ["optimizer.betas=[0.5,0.9]", "seed=1"],
        ["model.loss='x'"],
        ["optimizer.lr=-1"],
        ["optimizer.lr=1"],
        [f"a{n}=1" for n in range(60)],
        [f"a{n}=1" for n in range(61)],
    ]
    names = [run_name("m", variant) for variant in variants]
    assert len(set(names)) == len(names)
    for name in names:
        assert all(letter.isalnum() or letter in "._-" for letter in name), name
        assert len(name) < 60
