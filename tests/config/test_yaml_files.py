"""Every YAML file composes, builds and trains; experiments say what they reproduce; precedence holds."""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
import tarfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, TRANSLATORS, newest
from hydra import compose, initialize_config_module
from needs import is_installed, needs
from omegaconf import OmegaConf
from PIL import Image
from torchvision_files import made_celeba, made_cifar10, made_mnist

from gantrain.cli.compose import add_resolvers
from gantrain.cli.main import main
from gantrain.data.sets import digit_sets
from gantrain.data.tools.lmdb_convert import write_lmdb

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
# of models that translate: the images that they learn from in these tests
IMAGES = {"pix2pix": "edges2digits", "cyclegan": "digits2stripes", "discogan": "digits2stripes"}
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONFIGS / group).glob("*.yaml"))]

# of Hydra's plugins, which need not be installed
PLUGINS = [(group, path.stem) for group in ("launcher", "sweeper") for path in sorted((CONFIGS / group).glob("*.yaml"))]


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


def layout(data: str) -> str:
    """``aligned`` or ``unaligned``, where the data file is of that mode, or else its own name."""
    return OmegaConf.load(CONFIGS / f"data/{data}.yaml").get("defaults", [data])[0]


# ---- made-up data in the formats of the real


def made_images(folder: Path) -> None:
    """Two classes of three noisy images each, no two of the same shape."""
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / ("left", "right")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (70 + number, 90 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def made_domains(folders: dict[Path, int], *, width: int, height: int = 40) -> None:
    """So many noisy images in each folder, no two of the same folder in the same shape."""
    generator = np.random.default_rng(0)
    for folder, count in folders.items():
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (height + number, width - 2 * number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


def made_lsun(root: Path, category: str) -> None:
    """LMDB files of a category, of six images to train on and of four to test on."""
    for phase, count in (("train", 6), ("val", 4)):
        made_domains({root / phase: count}, width=90, height=70)
        write_lmdb(root / phase, root / f"{category}_{phase}_lmdb")


def made_shards(root: Path) -> None:
    """Two tar files of three noisy images each."""
    made_images(root / "images")
    for name in ("left", "right"):
        with tarfile.open(root / f"{name}.tar", "w") as archive:
            archive.add(root / "images" / name, name)


@pytest.fixture
def made(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Makes data for the data file of that name, and returns the overrides that lead there."""

    all_digits = digit_sets._digits

    def make(data: str) -> list[str]:
        root = workplace / "made"
        if data in ("digits", "digits_lmdb"):
            return ["data.max_size=20"]
        if data in ("edges2digits", "digits2stripes"):  # which they make themselves
            monkeypatch.setattr(digit_sets, "_digits", lambda *of: itertools.islice(all_digits(*of), 20))
            return []
        if layout(data) == "aligned":
            made_domains({root / "train": 3, root / "test": 2}, width=96)
        elif layout(data) == "unaligned":
            made_domains({root / "trainA": 3, root / "trainB": 2, root / "testA": 2, root / "testB": 2}, width=48)
        elif data in ("mnist", "fashion_mnist"):
            made_mnist(root, {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[data])
        elif data == "cifar10":
            made_cifar10(root, monkeypatch)
        elif data == "celeba":
            made_celeba(root, monkeypatch)
        elif "category" in OmegaConf.load(CONFIGS / f"data/{data}.yaml").data:
            made_lsun(root, data.removeprefix("lsun").lstrip("_") or "bedroom")
        elif data == "shards":
            made_shards(root)
        else:
            made_images(root)
        return [f"data.root={root}"]

    return make


# ---- composing


@functools.cache
def composed(*overrides: str) -> dict:
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return {"choices": choices, **OmegaConf.to_container(own, resolve=True, throw_on_missing=True)}


def test_every_file_of_the_package_belongs_to_a_group_that_is_tested_here() -> None:
    there = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert there == {f"{group}/{name}" for group, name in (*FILES, *PLUGINS)} | {"train", "test"}


@pytest.mark.parametrize(("group", "name"), PLUGINS)
def test_every_file_of_a_plugin_sets_keys_that_the_plugin_has(group: str, name: str) -> None:
    package = f"hydra_plugins.hydra_{name.partition('_')[0]}_{group}"
    if name == "ray" and not is_installed(package):
        pytest.skip("Ray is not installed, which can't be had beside joblib")
    needs(package)
    add_resolvers()
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = compose("train", [f"{group}={name}", "objective.mode=max"], return_hydra_config=True)
    assert config.hydra.runtime.choices[f"hydra/{group}"] == name
    own = OmegaConf.load(CONFIGS / group / f"{name}.yaml").hydra[group]
    assert own
    for key in own:
        assert key in config.hydra[group]
    if group == "sweeper":
        assert config.hydra.sweeper.direction == "maximize"


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_composes_and_has_one_length(group: str, name: str) -> None:
    rootless = group == "data" and name in ("single", "aligned", "unaligned", "lsun", "shards")
    config = composed(f"{group}={name}", *(["data.root=somewhere"] if rootless else []))
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


@pytest.mark.parametrize("discriminator", ["patchgan", "patchgan_textbook", "pixelgan"])
@pytest.mark.parametrize(
    ("model", "generator"),
    [
        *itertools.product(
            ["pix2pix", "cyclegan", "discogan", "colorization"], ["resnet", "unet", "encoder_decoder", "unet_resize"]
        ),
    ],
)
def test_every_model_that_translates_builds_on_every_family_of_networks(
    model: str, generator: str, discriminator: str, made, capsys
) -> None:
    data = IMAGES.get(model, "single")
    networks = [f"network/generator={generator}", f"network/discriminator={discriminator}"]
    sizes = ["data.load_size=32", "data.crop_size=32"]
    typed = [*SMALL, f"model={model}", f"data={data}", *made(data), *sizes, *networks, "dry_run=true"]
    assert main(["train", *typed]) == 0, capsys.readouterr().err
    kinds = [line.split()[0].split("_")[0] for line in capsys.readouterr().out.splitlines()[1:] if "(N, " in line]
    each = 2 if IMAGES.get(model) == "digits2stripes" else 1
    assert kinds == ["generator"] * each + ["discriminator"] * each + ["images"]


@pytest.mark.parametrize(
    ("model", "generator", "reason"),
    [
        ("dcgan", "resnet_9blocks", "network/generator=resnet: model=dcgan needs .* latent_dim .*: dcgan, mlp$"),
        ("pix2pix", "dcgan", "network/generator=dcgan: model=pix2pix needs .* input_shape .*: resnet, unet,"),
        ("cyclegan", "mlp", "network/generator=mlp: model=cyclegan needs .* input_shape .*: resnet, unet,"),
    ],
)
def test_a_generator_of_the_other_kind_is_refused_with_those_that_fit(
    model: str, generator: str, reason: str, made, capsys
) -> None:
    made(IMAGES.get(model, "digits"))
    assert main(["train", *SMALL, f"model={model}", f"network/generator={generator}", "name=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(reason, error), error
    assert not Path("checkpoints").exists()


def test_a_discriminator_without_class_outputs_is_refused_for_that(capsys) -> None:
    assert main(["train", *SMALL, "model=acgan", "network/discriminator=patchgan", "name=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search("network/discriminator=patchgan: model=acgan needs .* num_outputs .*: dcgan, mlp$", error), error


def test_a_models_discriminator_defaults_give_way_to_typed_keys() -> None:
    assert composed("model=sgan", "network/discriminator=mlp")["network"]["discriminator"]["norm"] == "spectral"
    assert composed("model=wgan_gp", "network/discriminator=patchgan")["network"]["discriminator"]["norm"] == "none"
    assert composed("model=dcgan", "network/discriminator=mlp")["network"]["discriminator"]["norm"] == "none"
    typed = composed("model=sgan", "network.discriminator.norm=batch", "network.discriminator.dropout=0")
    assert typed["network"]["discriminator"]["norm"] == "batch"
    assert typed["network"]["discriminator"]["dropout"] == 0


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
    "lsun": ("(N, 3, 64, 64)", 6),
    "shards": ("(N, 3, 64, 64)", 6),
    "lsun_bedroom": ("(N, 3, 64, 64)", 6),
    "digits_lmdb": ("(N, 1, 32, 32)", 20),
    "edges2digits": ("(N, 1, 32, 32)", 20),
    "digits2stripes": ("(N, 3, 32, 32)", 12),  # of 20 digits of unequal classes
    "aligned": ("(N, 3, 256, 256)", 3),
    "unaligned": ("(N, 3, 256, 256)", 3),
}
LEARNS_FROM = {"aligned": "pix2pix", "edges2digits": "pix2pix", "unaligned": "cyclegan", "digits2stripes": "cyclegan"}


@pytest.mark.parametrize("data", files_of("data"))
def test_every_data_file_reads_files_of_its_format_and_sizes_the_networks(data: str, made, capsys) -> None:
    shape, size = MADE[layout(data)]
    model = LEARNS_FROM.get(layout(data), "dcgan")
    typed = [f"model={model}", f"data={data}", *made(data), "network.width=2", "dry_run=true"]
    if model == "cyclegan":
        typed.append("network.generator.blocks=1")
    assert main(["train", *SMALL, *typed]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    image = f"image {shape}" if model == "dcgan" else f"a {shape}, b {shape}"
    assert f"{image}, {size} in an epoch" in out
    generator = next(line for line in out.splitlines() if line.startswith("generator"))
    assert shape in generator


# ---- training


def finite_losses(name: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in Path("checkpoints", name, "losses.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        assert all(math.isfinite(value) for value in line.values()), line
    return [{name: value for name, value in line.items() if not name.startswith("lr_")} for line in lines]


PAIRED = {"g_gan", "g_l1", "d_real", "d_fake"}
UNPAIRED = {"g_a", "g_b", "cycle_a", "cycle_b", "idt_a", "idt_b", "d_a", "d_b"}
LOSSES = {"pix2pix": PAIRED, "colorization": PAIRED, "cyclegan": UNPAIRED}  # others have at least d_real, d_fake and g


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_trains_two_steps(experiment: str, made, capsys) -> None:
    chosen = composed(f"experiment={experiment}")
    typed = ["data.batch_size=4", "data.num_workers=0", "network.width=8", "trainer.steps=2", "trainer.accelerator=cpu"]
    if "warmup_critic_steps" in chosen["model"]:
        typed.append("model.warmup_critic_steps=2")
    translates = chosen["model"]["name"] in LOSSES
    if translates:
        # a discriminator that sees 286 pixels needs more of them
        size = 96 if chosen["network"]["discriminator"].get("layers", 0) > 3 else 32
        typed += ["data.batch_size=2", "network.width=4", f"data.load_size={size + 4}", f"data.crop_size={size}"]
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
    if translates:
        assert losses[0].keys() - {"step", "epoch", "kimg"} == LOSSES[chosen["model"]["name"]]
    else:
        assert {"d_real", "d_fake", "g"} <= losses[0].keys()
    if chosen["model"]["name"] == "cyclegan":
        assert (losses[0]["idt_a"] > 0) == (losses[0]["idt_b"] > 0) == (chosen["model"]["lambda_identity"] > 0)
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
    if "no reference metric" in expected:
        return
    assert re.search(r"(FID|IS|SWD|log-likelihood|per-pixel) \d|misclassified|AMT, .* \d+\.\d \+-", expected), expected
    assert re.search(r"paper|mmagic|mimicry|StudioGAN|measured", expected)  # a number has a source


def test_no_comment_states_a_fact_without_a_source() -> None:
    assert [path.name for path in CONFIGS.rglob("*.yaml") if "from memory" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("model", [*MODELS, *TRANSLATORS])
def test_every_model_file_names_its_paper(model: str) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", header("model", model))


def test_every_model_is_tested_here() -> None:
    assert files_of("model") == sorted([*MODELS, *TRANSLATORS])


# direction, load_size, crop_size, flip, batch_size and epochs of the papers' appendices
JITTER, MIRRORED, PLAIN = (286, 256, True), (256, 256, True), (256, 256, False)
PAPERS = {
    "pix2pix_cityscapes": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_cityscapes_photo2labels": ("a_to_b", *JITTER, 1, 200),
    "pix2pix_cityscapes_encoder_decoder": ("b_to_a", *JITTER, 10, 200),
    "pix2pix_cityscapes_1x1": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_cityscapes_16x16": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_cityscapes_286x286": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_facades": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_map2aerial": ("b_to_a", *JITTER, 1, 200),
    "pix2pix_aerial2map": ("a_to_b", *JITTER, 1, 200),
    "pix2pix_edges2shoes": ("a_to_b", *PLAIN, 4, 15),
    "pix2pix_edges2handbags": ("a_to_b", *PLAIN, 4, 15),
    "pix2pix_day2night": ("b_to_a", *JITTER, 4, 17),
    "pix2pix_thermal2color": ("a_to_b", *JITTER, 4, 10),
    "pix2pix_inpainting_paris": ("a_to_b", *MIRRORED, 4, 25),
    "colorization_imagenet": (None, *MIRRORED, 4, 6),
    "cyclegan_cityscapes": ("a_to_b", 143, 128, True, 1, 200),
    "cyclegan_edges2shoes": ("a_to_b", *PLAIN, 1, 5),
}
PAPERS |= {
    f"cyclegan_{name}": ("a_to_b", *JITTER, 1, 200)
    for name in (
        "apple2orange",
        "cezanne2photo",
        "facades",
        "horse2zebra",
        "iphone2dslr_flower",
        "maps",
        "monet2photo",
        "summer2winter_yosemite",
        "ukiyoe2photo",
        "vangogh2photo",
    )
}


def test_every_translation_has_its_row_of_the_papers() -> None:
    ours = [name for name in files_of("experiment") if name.startswith(("pix2pix", "cyclegan", "colorization"))]
    assert sorted(PAPERS) == [name for name in ours if not name.endswith("_reference")]


@pytest.mark.parametrize("experiment", sorted(PAPERS))
def test_every_translation_of_the_papers_is_set_as_there(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    data, model = config["data"], config["model"]
    sizes = data.get("direction"), data["load_size"], data["crop_size"], data["flip"], data["batch_size"]
    assert (*sizes, config["trainer"]["epochs"]) == PAPERS[experiment]
    if model["name"] == "cyclegan":
        keeps_colours = re.search("monet|cezanne|ukiyoe|vangogh|flower", experiment)
        assert model["lambda_identity"] == (0.5 if keeps_colours else 0)
        assert (model["lambda_a"], model["lambda_b"], model["pool_size"]) == (10, 10, 50)
        assert (model["loss"], config["network"]["norm"]) == ("least_squares", "instance")
        assert config["network"]["generator"]["blocks"] == (9 if data["crop_size"] == 256 else 6)
        assert config["schedule"] == {"name": "linear", "start": 0.5}
    else:
        assert model["lambda_l1"] == 100
        assert (model["loss"], config["network"]["norm"]) == ("logistic", "batch")
        assert config["network"]["dropout"] == 0.5
        assert config["network"]["generator"]["skips"] == (experiment != "pix2pix_cityscapes_encoder_decoder")
        layers = {"pix2pix_cityscapes_1x1": None, "pix2pix_cityscapes_16x16": 1, "pix2pix_cityscapes_286x286": 5}
        assert config["network"]["discriminator"].get("layers") == layers.get(experiment, 3)
        assert config["schedule"] == {"name": "constant"}
    assert config["network"]["width"] == 64
    assert config["optimizer"]["lr"] == config["optimizer"]["discriminator_lr"] == 2e-4
    assert config["optimizer"]["betas"] == [0.5, 0.999]


def flat(config: dict, prefix: str = "") -> dict[str, object]:
    """Nested keys joined by dots."""
    found: dict[str, object] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@pytest.mark.parametrize("experiment", [name for name in files_of("experiment") if name.endswith("_reference")])
def test_a_reference_differs_from_the_paper_only_as_its_header_says(experiment: str) -> None:
    theirs, papers = (flat(composed(f"experiment={e}")) for e in (experiment, experiment.removesuffix("_reference")))
    changed = {key: theirs.get(key) for key in theirs.keys() | papers.keys() if theirs.get(key) != papers.get(key)}
    choices = {key for key in changed if key.startswith("choices.")} - {"choices.experiment"}
    changed = {key: value for key, value in changed.items() if not key.startswith("choices.")}
    if experiment.startswith("pix2pix"):
        assert choices == {"choices.schedule"}
        assert changed == {"schedule.name": "linear", "schedule.start": 0.5}
    else:
        assert choices == set()
        assert changed == {"model.lambda_identity": 0.5}


# ---- precedence


def test_the_command_line_beats_experiment_data_model_and_base(workplace: Path, capsys) -> None:
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


def mode(capsys, *typed: str) -> str:
    """``data.mode`` as the command composes it."""
    assert main(["train", *typed, "--cfg", "job"]) == 0, capsys.readouterr().err
    return OmegaConf.create(capsys.readouterr().out).data.mode


def test_a_model_that_translates_brings_images_unless_others_are_typed(capsys) -> None:
    assert mode(capsys) == "digits"
    assert mode(capsys, "model=wgan") == "digits"
    assert mode(capsys, "model=pix2pix") == "edges2digits"
    assert mode(capsys, "model=cyclegan") == "digits2stripes"
    assert mode(capsys, "model=discogan") == "digits2stripes"
    assert mode(capsys, "model=colorization", "data.root=somewhere") == "single"
    assert mode(capsys, "model=pix2pix", "data=facades") == "aligned"
    assert mode(capsys, "data=horse2zebra", "model=cyclegan") == "unaligned"
    assert mode(capsys, "model=discogan", "data=edges2shoes") == "aligned"
    assert mode(capsys, "experiment=cyclegan_maps") == "unaligned"
    assert mode(capsys, "experiment=cyclegan_maps", "data=digits2stripes") == "digits2stripes"


def test_precedence_of_model_data_and_experiment_that_translate() -> None:
    paired = ["model=pix2pix", "data=facades"]
    assert composed("model=pix2pix")["data"]["batch_size"] == 32  # data=digits, which compose alone leaves there
    assert composed(*paired)["data"]["batch_size"] == 1  # the model: the data does not say
    assert composed("model=pix2pix", "data=edges2shoes")["data"]["batch_size"] == 4  # the data over the model
    assert composed("model=cyclegan", "data=edges2shoes")["trainer"]["epochs"] == 15
    assert composed("experiment=cyclegan_edges2shoes")["data"]["batch_size"] == 1  # the experiment over the data
    assert composed("experiment=cyclegan_edges2shoes")["trainer"]["epochs"] == 5
    assert composed("experiment=cyclegan_edges2shoes", "trainer.epochs=7")["trainer"]["epochs"] == 7
    assert composed(*paired)["choices"]["schedule"] == "linear"
    assert composed(*paired, "schedule=cosine")["choices"]["schedule"] == "cosine"
    assert composed("experiment=pix2pix_facades_reference", "schedule=cosine")["choices"]["schedule"] == "cosine"
    config = composed("experiment=cyclegan_cityscapes", "network/generator=unet", "data=edges2shoes")
    assert config["choices"]["network/generator"] == "unet"
    assert config["data"]["root"] == "datasets/edges2shoes"
    assert config["data"]["crop_size"] == 128  # the experiment still has its say
