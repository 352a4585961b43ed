"""A mistake in a command is answered by one line with its cause and its remedy, and leaves no files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import TINY
from PIL import Image

from gantrain.cli.main import main

LONGEST = 600  # The longest message: enough for a list of choices, too short for a whole configuration.
TINY_WITHOUT_SIZE = [typed for typed in TINY if "load_size" not in typed]
CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="it is available here")
MPS = pytest.mark.skipif(torch.backends.mps.is_available(), reason="it is available here")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of images without classes, and one without images."""
    made = {"images": tmp_path_factory.mktemp("images"), "empty": tmp_path_factory.mktemp("empty")}
    for number in range(4):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(made["images"] / f"{number}.png")
    return made


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that refuses, after the checks that hold for every refusal."""
    before = sorted(Path().rglob("*"))
    status = main(arguments)
    shown = capsys.readouterr()
    assert status in (1, 2), (status, shown.err)
    assert shown.out == ""
    assert shown.err.startswith("gantrain: ")
    assert shown.err.count("\n") == 1, shown.err
    assert shown.err.endswith("\n")
    for trace in ("Traceback", "HYDRA_FULL_ERROR", "Error executing job", "object_type", "provider="):
        assert trace not in shown.err
    assert len(shown.err) <= LONGEST, shown.err
    assert sorted(Path().rglob("*")) == before
    return shown.err


UNKNOWN = [  # Arguments, and parts of the message
    ("oops=1", ["oops=1", "seed", "model"]),
    ("sed=1", ["sed=1", "'seed'"]),
    ("modle=dcgan", ["modle=dcgan", "'model'"]),
    ("data.bach_size=3", ["data.bach_size=3", "batch_size"]),
    ("trainer.step=3", ["trainer.step=3", "trainer.steps"]),
    ("model.latent_dims=3", ["model.latent_dims=3", "latent_dim"]),
    ("network.generator.widht=3", ["network.generator.widht=3", "width"]),
    ("optimizer.learning_rate=1e-4", ["optimizer.learning_rate", "lr"]),
    ("+data.foo=1", ["data.foo", "batch_size"]),
    ("++model.lose=hinge", ["model.lose", "'loss'"]),
    ("+foo=1", ["foo=1", "seed"]),
    ("model=dcgn", ["model=dcgn", "'dcgan'"]),
    ("model=zzz", ["model=zzz", "there are: acgan,", "wgan_gp"]),
    ("model=", ["model=", "there are: acgan,"]),
    ("data=digit", ["data=digit", "'digits'"]),
    ("experiment=gan_mnst", ["experiment=gan_mnst", "'gan_mnist'"]),
    ("network/generator=dcgn", ["network/generator=dcgn", "'dcgan'"]),
    ("network/generatr=dcgan", ["network/generatr=dcgan", "'network/generator'"]),
    ("nonsense=dcgan", ["nonsense=dcgan"]),
    ("model.name=dcgn", ["model.name=dcgn", "'dcgan'"]),
    ("model.loss=hinge2", ["model.loss", "'hinge2'", "'hinge'"]),
]
WRONG_TYPE = [
    ("optimizer.lr=abc", ["optimizer.lr", "a number", "'abc'"]),
    ("optimizer.betas=0.5", ["optimizer.betas", "a list", "0.5"]),
    ("optimizer.betas=[0.5]", ["optimizer.betas", "[0.5]"]),
    ("trainer.steps=abc", ["trainer.steps", "a whole number", "'abc'"]),
    ("data.batch_size=1.5", ["data.batch_size", "a whole number", "1.5"]),
    ("seed=x", ["seed", "a whole number", "'x'"]),
    ("dry_run=maybe", ["dry_run", "true or false", "'maybe'"]),
    ("resume=sometimes", ["resume", "'auto', 'never'", "'sometimes'"]),
    ("plugins=nope", ["plugins", "a list", "'nope'"]),
    ("network.generator=nope", ["network.generator", "'nope'"]),
    ("network.generator.norm=layer", ["network.generator.norm", "'batch'", "'layer'"]),
    ("trainer.precision=half", ["trainer.precision", "'bfloat16'", "'half'"]),
]
OUT_OF_RANGE = [
    ("trainer.steps=0", ["trainer.steps", "got 0", "at least 1"]),
    ("trainer.steps=-1", ["trainer.steps", "got -1"]),
    ("trainer.devices=0", ["trainer.devices", "got 0", "at least 1"]),
    ("trainer.log_every=0", ["trainer.log_every", "got 0", "at least 1"]),
    ("data.batch_size=-4", ["data.batch_size", "got -4", "at least 1"]),
    ("data.num_workers=-1", ["data.num_workers", "-1"]),
    ("data.max_size=0", ["data.max_size", "got 0", "at least 1"]),
    ("network.width=0", ["width", "0"]),
    ("network.width=-4", ["width", "-4"]),
    ("network.discriminator.dropout=2", ["dropout", "2"]),
    ("network.discriminator.extra_layers=-1", ["extra_layers", "-1"]),
    ("network/generator=mlp network.generator.hidden=-2", ["hidden", "-2"]),
    ("network/generator=mlp network.generator.num_layers=-1", ["num_layers", "-1"]),
    ("optimizer.lr=-1", ["optimizer.lr", "-1"]),
    ("optimizer.discriminator_lr=-1", ["optimizer.discriminator_lr", "-1"]),
    ("optimizer.weight_decay=-1", ["optimizer.weight_decay", "-1"]),
    ("optimizer.betas=[0.5,1.5]", ["optimizer.betas", "1.5"]),
    ("model.latent_dim=0", ["model.latent_dim", "0"]),
    ("model.critic_steps=0", ["model.critic_steps", "got 0", "at least 1"]),
    ("model.pool_size=-1", ["model.pool_size", "got -1"]),
    ("model.ema=1", ["model.ema", "below 1"]),
    ("model.r1=-1", ["model.r1", "-1"]),
    ("model.gradient_penalty=-1", ["model.gradient_penalty", "-1"]),
    ("model.label_smoothing=-0.1", ["model.label_smoothing", "-0.1"]),
    ("model.label_smoothing=2", ["model.label_smoothing", "2"]),
    ("model=wgan model.clip=-1", ["model.clip", "got -1"]),
    ("model=wgan model.warmup_every=-1", ["model.warmup_every", "-1"]),
    ("schedule=linear schedule.start=2", ["schedule.start", "got 2", "below 1"]),
]
DO_NOT_FIT = [
    ("model=cgan data=single data.root={images}", ["model=cgan", "label", "sub-folder"]),
    ("model=acgan data=single data.root={images}", ["model=acgan", "label", "sub-folder"]),
    ("data=single data.root={images} data.labelled=3", ["data.labelled=3", "no labels"]),
    ("data.load_size=12", ["12 x 12", "multiples of 4 from 16 to 1024", "data.load_size"]),
    ("data.load_size=33", ["33 x 33", "multiples of 4 from 16 to 1024", "data.load_size"]),
    ("data=single data.root={images} data.crop_size=65 data.load_size=64", ["data.crop_size", "(65)", "(64)"]),
    ("data=single", ["data.root", "missing"]),
    ("data=single data.root=nowhere", ["data.root", "nowhere"]),
    ("data=single data.root={empty}", ["data.root", "no image", "{empty}", ".png"]),
    ("trainer.steps=5 trainer.epochs=2", ["exactly one", "trainer.steps=5", "trainer.epochs=2"]),
    ("trainer.steps=null", ["exactly one", "trainer.steps", "trainer.epochs", "trainer.kimg"]),
    ("model.loss=wasserstein model.label_smoothing=0.1", ["model.label_smoothing=0.1", "model.loss=wasserstein"]),
    ("init_from=nowhere", ["init_from", "nowhere"]),
    ("plugins=[nope]", ["plugins", "'nope'"]),
    ("name=a/b", ["name=a/b"]),
    ("name=sweeps", ["name=sweeps"]),
]
BROKEN = [
    ("model==x", ["model==x"]),
    ("foo", ["foo"]),
    ("optimizer.lr=[1", ["optimizer.lr=[1"]),
    ("model=dcgan=x", ["model=dcgan=x"]),
    ("metrics=null model=dcgan dry_run=true", ["gantrain: metrics=null: ", "metrics=[]"]),
    ("model=dcgan,gan", ["model=dcgan,gan", "--multirun"]),
    ("optimizer.lr=${{oops}}", ["oops"]),
    ("--config-dir nowhere", ["nowhere"]),
    ("--nonsense", ["--nonsense"]),
]


MISTAKES = [*UNKNOWN, *WRONG_TYPE, *OUT_OF_RANGE, *DO_NOT_FIT, *BROKEN]


@pytest.mark.parametrize(("typed", "expected"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_refused_in_one_line_and_leaves_no_files(
    typed: str, expected: list[str], folders: dict[str, Path], capsys
) -> None:
    # A mistake that is accepted trains one step at most, and is found by its status.
    sizes = [*TINY_WITHOUT_SIZE, "trainer.steps=1"] if "trainer." not in typed else TINY_WITHOUT_SIZE
    message = refusal(["train", *sizes, *typed.format(**folders).split()], capsys)
    for words in expected:
        assert words.format(**folders) in message


@pytest.mark.parametrize("accelerator", [pytest.param("cuda", marks=CUDA), pytest.param("mps", marks=MPS)])
def test_a_missing_accelerator_is_refused_with_the_existing_ones(accelerator: str, capsys) -> None:
    message = refusal(["train", f"trainer.accelerator={accelerator}"], capsys)
    assert f"trainer.accelerator={accelerator}" in message
    assert "cpu" in message


def test_train_and_test_do_not_suggest_keys_of_each_other(capsys) -> None:
    assert "labels" not in refusal(["train", "zzz=1"], capsys)
    assert "optimizer" not in refusal(["test", "zzz=1"], capsys)


@pytest.mark.parametrize("text", ["model: [1, 2\n", "\tmodel: 1\n", "model: a: b\n"])
def test_an_invalid_yaml_file_is_refused_by_its_name(text: str, capsys) -> None:
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/broken.yaml").write_text(text)
    assert "broken.yaml" in refusal(["train", "--config-dir", "mine", "model=broken"], capsys)


def test_a_file_that_overrides_a_missing_group_is_refused(capsys) -> None:
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/broken.yaml").write_text(
        "# @package _global_\ndefaults:\n  - dcgan\n  - override /optimiser: adam\n"
    )
    message = refusal(["train", "--config-dir", "mine", "model=broken"], capsys)
    assert "optimiser" in message
    assert "'optimizer'" in message


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["tain"], ["'tain'", "'train'"]),
        (
            ["zzz"],
            ["'zzz'", "compare, data, doctor, evaluate, export, list, migrate, predict, reproduce, resume, runs, test"],
        ),
        (["test"], ["run", "run=checkpoints/NAME", "none yet"]),
        (["test", "run=checkpoints/nothing"], ["run=checkpoints/nothing"]),
        (["test", "run=."], ["checkpoint"]),
        (["test", "rnu=x"], ["rnu=x", "'run'"]),
        (["test", "+foo=1"], ["foo=1", "run"]),
        (["test", "run=x", "labels=[1.5]"], ["labels", "[1.5]"]),
        (["list", "plugins=[nope]"], ["'nope'"]),
        (["list", "modles"], ["modles", "'models'"]),
        (["help", "nothing"], ["gantrain: help nothing: "]),
        (["reproduce", "cut_cat2dig"], ["gantrain: reproduce cut_cat2dig: ", "'cut_cat2dog'"]),
    ],
)
def test_other_commands_refuse_mistakes_in_one_line(typed: list[str], expected: list[str], capsys) -> None:
    message = refusal(typed, capsys)
    for words in expected:
        assert words in message


@pytest.mark.parametrize(
    ("model", "typed", "expected"),
    [
        ("dcgan", "labels=[1]", ["labels=[1]", "has no labels"]),
        ("cgan", "labels=[10]", ["labels=[10]", "0 to 9"]),
        ("cgan", "labels=[a]", ["labels=[a]", "0 to 9", "names"]),
        ("cgan", "labels=[]", ["labels"]),
        ("dcgan", "step=7", ["step 7", "step_1"]),
        ("dcgan", "num=0", ["num", "got 0"]),
        ("dcgan", "network_weights=average", ["network_weights=average", "model.ema"]),
        ("dcgan", "network_weights=best", ["network_weights", "'best'", "'last'"]),
    ],
)
def test_test_refuses_arguments_that_do_not_suit_the_run(
    model: str, typed: str, expected: list[str], trained, capsys
) -> None:
    run = trained(model)
    capsys.readouterr()
    message = refusal(["test", f"run={run}", "accelerator=cpu", typed], capsys)
    for words in expected:
        assert words in message


def test_a_missing_run_is_refused_with_the_existing_ones(trained, capsys) -> None:
    runs = [trained("cgan"), trained("dcgan")]
    capsys.readouterr()
    assert f"{runs[0]}, {runs[1]}" in refusal(["test"], capsys)
