"""Every YAML file composes and builds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from conftest import MODELS
from hydra import compose, initialize_config_module
from needs import is_installed, needs
from omegaconf import OmegaConf
from yaml_files import CONFIGS, FILES, composed, files_of, layout

from gantrain.cli.compose import add_resolvers
from gantrain.cli.main import main

SMALL = ["data.batch_size=4", "data.num_workers=0", "network.width=4", "trainer.accelerator=cpu"]
TINY_DIGITS = [*SMALL, "data.load_size=16"]
# The demonstration data of models that translate.
IMAGES = {"pix2pix": "edges2digits", **dict.fromkeys(["cyclegan", "discogan", "cut", "fastcut"], "digits2stripes")}
# Files of Hydra's plugins, which need not be installed.
PLUGINS = [(group, path.stem) for group in ("launcher", "sweeper") for path in sorted((CONFIGS / group).glob("*.yaml"))]


def test_every_file_belongs_to_a_group_that_is_tested_here() -> None:
    files = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert files == {f"{group}/{name}" for group, name in (*FILES, *PLUGINS)} | {
        "train",
        "test",
        "predict",
        "evaluate",
        "export",
        "benchmark",
        "measuring",
    }


@pytest.mark.parametrize(("group", "name"), PLUGINS)
def test_every_file_of_a_plugin_sets_existing_keys(group: str, name: str) -> None:
    package = f"hydra_plugins.hydra_{name.partition('_')[0]}_{group}"
    if name == "ray" and not is_installed(package):
        pytest.skip("Ray is not installed; it can't be installed together with joblib")
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
def test_every_file_composes_and_sets_one_length_of_training(group: str, name: str) -> None:
    rootless = group == "data" and name in ("single", "aligned", "unaligned", "lsun", "shards")
    config = composed(f"{group}={name}", *(["data.root=somewhere"] if rootless else []))
    assert config["choices"][group] == name
    lengths = [key for key in ("steps", "epochs", "kimg") if config["trainer"][key] is not None]
    assert len(lengths) == 1, lengths


@pytest.mark.parametrize("name", files_of("model"))
def test_resolved_values_are_those_of_the_run(name: str, capsys) -> None:
    shown = []
    for flags in ([], ["--resolve"]):
        assert main(["train", f"model={name}", "--cfg", "job", *flags]) == 0
        shown.append(OmegaConf.create(capsys.readouterr().out))
    with_interpolations, resolved = shown
    assert OmegaConf.to_container(resolved) == OmegaConf.to_container(with_interpolations, resolve=True)
    assert "${" not in OmegaConf.to_yaml(resolved)


@pytest.mark.parametrize("family", ["dcgan", "mlp", "resnet_gan"])
@pytest.mark.parametrize("model", MODELS)
def test_every_latent_model_builds_with_every_network(model: str, family: str, capsys) -> None:
    networks = [f"network/generator={family}", f"network/discriminator={family}"]
    typed = [*SMALL, "data.load_size=32", f"model={model}", *networks, "dry_run=true"]
    assert main(["train", *typed]) == 0, capsys.readouterr().err
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[0] == "generator"
    assert table[2].split()[0] == "discriminator"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("model", ["pix2pix", "cyclegan", "discogan", "colorization"])
@pytest.mark.parametrize(
    ("generator", "discriminator"),
    [
        *itertools.product(["resnet", "unet", "encoder_decoder", "unet_resize"], ["patchgan"]),
        *itertools.product(["resnet"], ["patchgan_textbook", "pixelgan"]),
    ],
)
def test_every_translation_model_builds_with_every_network(
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
        (
            "dcgan",
            "resnet_9blocks",
            "network/generator=resnet: model=dcgan needs .* latent_dim .*: dcgan, mlp, resnet_gan$",
        ),
        ("pix2pix", "dcgan", "network/generator=dcgan: model=pix2pix needs .* input_shape .*: resnet, unet,"),
        ("cyclegan", "mlp", "network/generator=mlp: model=cyclegan needs .* input_shape .*: resnet, unet,"),
    ],
)
def test_an_unsuitable_generator_is_refused_with_the_suitable_ones(
    model: str, generator: str, reason: str, made, capsys
) -> None:
    made(IMAGES.get(model, "digits"))
    assert main(["train", *SMALL, f"model={model}", f"network/generator={generator}", "name=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(reason, error), error
    assert not Path("checkpoints").exists()


def test_an_unsuitable_discriminator_is_refused_with_the_reason(capsys) -> None:
    assert main(["train", *SMALL, "model=acgan", "network/discriminator=patchgan", "name=run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(
        "network/discriminator=patchgan: model=acgan needs .* num_outputs .*: dcgan, mlp, resnet_gan$", error
    ), error


def test_typed_keys_override_the_discriminator_defaults_of_a_model() -> None:
    assert (
        composed("model=sgan", "data=mnist", "network/discriminator=mlp")["network"]["discriminator"]["norm"]
        == "spectral"
    )
    assert composed("model=wgan_gp", "network/discriminator=patchgan")["network"]["discriminator"]["norm"] == "none"
    assert composed("model=dcgan", "network/discriminator=mlp")["network"]["discriminator"]["norm"] == "none"
    typed = composed("model=sgan", "network.discriminator.norm=batch", "network.discriminator.dropout=0")
    assert typed["network"]["discriminator"]["norm"] == "batch"
    assert typed["network"]["discriminator"]["dropout"] == 0
    for typed_keys, expected in (([], (False, True)), (["network.antialias=true"], (True, True))):
        network = composed("model=cut", "data=digits2stripes", *typed_keys)["network"]
        assert (network["generator"]["antialias"], network["discriminator"]["antialias"]) == expected


def test_sngan_and_sagan_have_the_settings_of_their_papers() -> None:
    for name, rates, critic_steps, attention in (("sngan", (2e-4, 2e-4), 5, []), ("sagan", (1e-4, 4e-4), 1, [32])):
        config = composed(f"model={name}", "data=cifar10")
        generator, discriminator = config["network"]["generator"], config["network"]["discriminator"]
        assert (config["optimizer"]["lr"], config["optimizer"]["discriminator_lr"]) == rates
        assert config["optimizer"]["betas"] == [0.0, 0.9]
        assert (config["model"]["loss"], config["model"]["critic_steps"]) == ("hinge", critic_steps)
        assert generator["attention"] == discriminator["attention"] == attention
        assert (generator["norm"], discriminator["norm"]) == ("batch", "spectral")
        assert generator["spectral"] == (name == "sagan")
        assert generator["width"] == discriminator["width"] == 64


@pytest.mark.parametrize("typed", ["model=sngan model.name=cgan", "model=sagan"])
def test_both_networks_of_the_conditional_ones_get_labels(typed: str, capsys) -> None:
    assert main(["train", *typed.split(), "dry_run=true"]) == 0
    table = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line.rpartition(" ")[0] for line in table[1:3]] == [
        "generator (N, 32), (N) (N, 1, 32, 32)",
        "discriminator (N, 1, 32, 32), (N) (N, 1)",
    ]


@pytest.mark.parametrize("model", ["dcgan", "gan", "wgan_gp", "infogan"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_typed_optimizer_replaces_the_models_own(model: str, optimizer: str, capsys) -> None:
    typed = [f"model={model}", f"optimizer={optimizer}", "dry_run=true"]
    assert main(["train", *TINY_DIGITS, *typed]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("trainer", files_of("trainer"))
def test_every_trainer_builds_on_the_cpu(trainer: str, capsys) -> None:
    typed = [f"trainer={trainer}", "dry_run=true"]
    assert main(["train", *TINY_DIGITS, *typed]) == 0, capsys.readouterr().err


# The shape of what `made` creates, as networks get it, and the number of training images.
MADE = {
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
    "stacked_digits": ("(N, 3, 32, 32)", 20),
    "edges2digits": ("(N, 1, 32, 32)", 20),
    "digits2stripes": ("(N, 3, 32, 32)", 12),  # 20 digits of unequal classes
    "aligned": ("(N, 3, 256, 256)", 3),
    "unaligned": ("(N, 3, 256, 256)", 3),
}
LEARNS_FROM = {"aligned": "pix2pix", "edges2digits": "pix2pix", "unaligned": "cyclegan", "digits2stripes": "cyclegan"}


@pytest.mark.parametrize("data", files_of("data"))
def test_every_data_file_reads_its_format_and_sizes_the_networks(data: str, made, capsys) -> None:
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
