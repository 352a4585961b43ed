"""Every YAML file composes, builds and trains; experiments say what they reproduce; precedence holds."""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, newest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from PIL import Image

from gantrain.cli import main

CONFIGS = Path(str(resources.files("gantrain.configs")))
GROUPS = (
    "data",
    "experiment",
    "logger",
    "model",
    "network/discriminator",
    "network/generator",
    "optimizer",
    "recipe",
    "recipe/rates",
    "schedule",
    "trainer",
)
SMALL = ["data.batch_size=4", "data.num_workers=0", "network.width=4", "trainer.accelerator=cpu"]
TINY_DIGITS = [*SMALL, "data.load_size=16"]
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONFIGS / group).glob("*.yaml"))]


def files_of(group: str) -> list[str]:
    names = [name for of, name in FILES if of == group]
    assert names
    return names


def header(group: str, name: str) -> str:
    """The comment that a file begins with, as one line."""
    lines = []
    for line in (CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


# ---- made-up data in the formats of the real


def made_pictures(folder: Path) -> None:
    """Two classes of three noisy pictures each, no two of the same shape."""
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / ("left", "right")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (70 + number, 90 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def made_mnist(root: Path, name: str) -> None:
    """The four files of MNIST (idx format), 20 images to train on and 10 to test."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        # idx: two zero bytes, 8 for uint8, the number of dimensions, then each in four bytes
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def made_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's batches of pickled rows, and its class names; torchvision is told not to compare checksums."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for file, count in (("data_batch_1", 20), ("test_batch", 10)):
        rows = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": rows, "labels": [i % 10 for i in range(count)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})


def made_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CelebA's tables and seven pictures of its size, four of them to train on."""
    from torchvision.datasets import CelebA

    folder = root / CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, 8)]
    generator = np.random.default_rng(0)
    for name in names:
        pixels = generator.integers(0, 256, (218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
    splits = [0, 0, 0, 0, 1, 2, 2]  # train, valid, test
    tables = {
        "list_eval_partition.txt": [f"{name} {split}" for name, split in zip(names, splits, strict=True)],
        "identity_CelebA.txt": [f"{name} 1" for name in names],
        "list_attr_celeba.txt": ["7", "Smiling Young", *(f"{name} 1 -1" for name in names)],
        "list_bbox_celeba.txt": ["7", "image_id x y w h", *(f"{name} 1 1 9 9" for name in names)],
        "list_landmarks_align_celeba.txt": ["7", "nose_x nose_y", *(f"{name} 3 4" for name in names)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(CelebA, "file_list", [("", None, name) for name in tables])


@pytest.fixture
def made(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Makes data for the data file of that name, and returns the overrides that lead there."""

    def make(data: str) -> list[str]:
        root = workplace / "made"
        if data == "digits":
            return ["data.max_size=20"]
        if data in ("mnist", "fashion_mnist"):
            made_mnist(root, {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[data])
        elif data == "cifar10":
            made_cifar10(root, monkeypatch)
        elif data == "celeba":
            made_celeba(root, monkeypatch)
        else:
            made_pictures(root)
        return [f"data.root={root}"]

    return make


# ---- composing


def composed(*overrides: str) -> dict:
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return {"choices": choices, **OmegaConf.to_container(own, resolve=True, throw_on_missing=True)}


def test_every_file_of_the_package_belongs_to_a_group_that_is_tested_here() -> None:
    there = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert there == {f"{group}/{name}" for group, name in FILES} | {"train", "test"}


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_composes_and_has_one_length(group: str, name: str) -> None:
    root = ["data.root=somewhere"] if (group, name) == ("data", "single") else []
    config = composed(f"{group}={name}", *root)
    assert config["choices"][group] == name
    lengths = [key for key in ("steps", "epochs", "kimg") if config["trainer"][key] is not None]
    assert len(lengths) == 1, lengths


# ---- building


@pytest.mark.parametrize("family", ["dcgan", "mlp"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_builds_on_every_family_of_networks(model: str, family: str, capsys) -> None:
    networks = [f"network/generator={family}", f"network/discriminator={family}"]
    assert main(["train", *TINY_DIGITS, f"model={model}", *networks, "dry_run=true"]) == 0, capsys.readouterr().err
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[0] == "generator"
    assert table[2].split()[0] == "discriminator"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("model", ["dcgan", "gan", "wgan_gp", "infogan"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_typed_optimizer_replaces_the_models_own(model: str, optimizer: str, capsys) -> None:
    typed = [f"model={model}", f"optimizer={optimizer}", "dry_run=true"]
    assert main(["train", *TINY_DIGITS, *typed]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("trainer", files_of("trainer"))
def test_every_trainer_builds_on_the_cpu(trainer: str, capsys) -> None:
    typed = [f"trainer={trainer}", "dry_run=true"]
    assert main(["train", *TINY_DIGITS, *typed]) == 0, capsys.readouterr().err


MADE = {  # what `made` makes, as networks see it, and how many there are to train on
    "digits": ("(N, 1, 32, 32)", 20),
    "mnist": ("(N, 1, 32, 32)", 20),
    "fashion_mnist": ("(N, 1, 32, 32)", 20),
    "cifar10": ("(N, 3, 32, 32)", 20),
    "celeba": ("(N, 3, 64, 64)", 4),
    "single": ("(N, 3, 64, 64)", 6),
    "lsun_bedroom": ("(N, 3, 64, 64)", 6),
}


@pytest.mark.parametrize("data", files_of("data"))
def test_every_data_file_reads_files_of_its_format_and_sizes_the_networks(data: str, made, capsys) -> None:
    shape, size = MADE[data]
    assert main(["train", *SMALL, f"data={data}", *made(data), "dry_run=true"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert f"image {shape}, {size} in an epoch" in out
    generator = next(line for line in out.splitlines() if line.startswith("generator"))
    assert shape in generator


# ---- training


def finite_losses(name: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in Path("checkpoints", name, "losses.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        assert all(math.isfinite(value) for value in line.values()), line
    return lines


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_trains_two_steps(experiment: str, made, capsys) -> None:
    chosen = composed(f"experiment={experiment}")
    typed = ["data.batch_size=4", "data.num_workers=0", "network.width=8", "trainer.steps=2", "trainer.accelerator=cpu"]
    if "warmup_critic_steps" in chosen["model"]:
        typed.append("model.warmup_critic_steps=2")
    for side in ("generator", "discriminator"):
        if "hidden" in chosen["network"][side]:
            typed.append(f"network.{side}.hidden=8")
    root = made(chosen["choices"]["data"])
    assert main(["train", f"experiment={experiment}", *root, *typed, "name=run"]) == 0, capsys.readouterr().err
    state = newest("run")
    assert state["step"] == 2
    assert state["config"]["model"]["name"] == chosen["model"]["name"]
    losses = finite_losses("run")
    assert losses[0]["step"] == 2
    assert {"d_real", "d_fake", "g"} <= losses[0].keys()
    assert Path("checkpoints/run/step_2.pt").exists()
    assert Path("checkpoints/run/index.html").exists()


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in ("optimizer", "schedule") for name in files_of(group)]
)
def test_every_optimizer_and_schedule_trains(group: str, name: str, train) -> None:
    interval = ["schedule.interval=1"] if name == "plateau" else []
    state = train("run", "model=gan", f"{group}={name}", *interval, "trainer.steps=2", "network.generator.hidden=4")
    assert state["config"][group]["name"] == name.split("_")[0]
    assert len(finite_losses("run")) == 1


# ---- what the files say


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_names_its_paper_its_setting_and_what_to_expect(experiment: str) -> None:
    text = header("experiment", experiment)
    assert text.startswith("@package _global_ ")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", text)
    _, setting, expected = re.split(r"(?:Setting|Expected): ", text)
    assert len(setting) > 40
    # a figure, or the plain statement that nobody has one
    figure = re.search(r"(FID|IS|SWD|KID|log-likelihood|accuracy|errs on) \d", expected) or re.search(
        r"wrongly|no figure|no FID", expected
    )
    assert figure, expected
    # a figure has a source: a re-run's code base, or the paper, which was then not at hand
    assert re.search(r"\(?from memory|mmagic|mimicry|StudioGAN", expected)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_file_names_its_paper(model: str) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", header("model", model))


# ---- precedence


def test_the_command_line_beats_the_experiment_the_data_the_model_and_the_base(workplace: Path, capsys) -> None:
    (workplace / "mine/data").mkdir(parents=True)
    (workplace / "mine/data/slow.yaml").write_text(
        "# @package _global_\ndefaults: [digits]\noptimizer:\n  lr: 3.0e-4\n"
    )
    (workplace / "mine/experiment").mkdir()
    (workplace / "mine/experiment/careful.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: infogan\n  - override /data: slow\n"
        "optimizer:\n  lr: 4.0e-4\n"
    )

    def rate(*typed: str) -> float:
        assert main(["train", "--config-dir", "mine", *typed, "--cfg", "job"]) == 0
        return OmegaConf.create(capsys.readouterr().out).optimizer.lr

    assert rate("data=mnist") == 2e-4
    assert rate("model=infogan") == 1e-3
    assert rate("model=infogan", "data=slow") == 3e-4
    assert rate("data=slow", "model=infogan") == 3e-4
    assert rate("experiment=careful") == 4e-4
    assert rate("experiment=careful", "optimizer.lr=5e-4") == 5e-4
    assert rate("optimizer.lr=5e-4", "experiment=careful") == 5e-4


def test_precedence_among_the_files_that_are_shipped() -> None:
    assert composed("data=cifar10")["network"]["width"] == 64  # train.yaml
    assert composed()["network"]["width"] == 32  # data=digits
    assert composed("experiment=lsgan_lsun_bedroom")["network"]["width"] == 128
    assert composed("experiment=lsgan_lsun_bedroom", "network.width=16")["network"]["width"] == 16
    assert composed("model=wgan_gp")["network"]["discriminator"]["norm"] == "none"  # the file of the network: batch
    assert composed("model=gan")["optimizer"]["lr"] == 2e-3  # the file of the optimizer: 2e-4
    assert composed("experiment=gan_mnist")["optimizer"]["betas"] == [0.5, 0.999]


def test_a_typed_group_beats_the_choice_of_model_and_experiment() -> None:
    assert composed("model=gan", "network/generator=dcgan")["network"]["generator"]["name"] == "dcgan"
    assert composed("network/generator=dcgan", "model=gan")["network"]["generator"]["name"] == "dcgan"
    config = composed("experiment=wgan_gp_cifar10", "data=digits", "schedule=constant")
    assert config["data"]["mode"] == "digits"
    assert config["schedule"]["name"] == "constant"
