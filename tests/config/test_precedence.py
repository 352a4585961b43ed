"""Which of several files and overrides sets a value."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from yaml_files import composed

from gantrain.cli.main import main


def test_the_command_line_overrides_experiment_data_model_and_base(workplace: Path, capsys) -> None:
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


def test_precedence_among_shipped_files() -> None:
    assert composed("data=cifar10")["network"]["width"] == 64  # train.yaml
    assert composed()["network"]["width"] == 32  # data=digits
    assert composed("experiment=lsgan_lsun_bedroom")["network"]["width"] == 128
    assert composed("experiment=lsgan_lsun_bedroom", "network.width=16")["network"]["width"] == 16
    assert composed("model=wgan_gp")["network"]["discriminator"]["norm"] == "none"  # the file of the network: batch
    assert composed("model=gan")["optimizer"]["lr"] == 2e-3  # the file of the optimizer: 2e-4
    assert composed("experiment=gan_mnist")["optimizer"]["betas"] == [0.5, 0.999]


def test_a_typed_group_overrides_the_choice_of_model_and_experiment() -> None:
    assert composed("model=gan", "network/generator=dcgan")["network"]["generator"]["name"] == "dcgan"
    assert composed("network/generator=dcgan", "model=gan")["network"]["generator"]["name"] == "dcgan"
    config = composed("experiment=wgan_gp_cifar10", "data=digits", "schedule=constant")
    assert config["data"]["mode"] == "digits"
    assert config["schedule"]["name"] == "constant"


def mode(capsys, *typed: str) -> str:
    """``data.mode`` as the command composes it."""
    assert main(["train", *typed, "--cfg", "job"]) == 0, capsys.readouterr().err
    return OmegaConf.create(capsys.readouterr().out).data.mode


def test_a_translation_model_selects_data_unless_data_is_typed(capsys) -> None:
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


def test_precedence_of_model_data_and_experiment_of_translation() -> None:
    paired = ["model=pix2pix", "data=facades"]
    assert composed("model=pix2pix")["data"]["batch_size"] == 32  # data=digits: compose alone does not replace it
    assert composed(*paired)["data"]["batch_size"] == 1  # the model; the data file does not set it
    assert composed("model=pix2pix", "data=edges2shoes")["data"]["batch_size"] == 4  # the data file overrides the model
    assert composed("model=cyclegan", "data=edges2shoes")["trainer"]["epochs"] == 15
    assert (
        composed("experiment=cyclegan_edges2shoes")["data"]["batch_size"] == 1
    )  # the experiment overrides the data file
    assert composed("experiment=cyclegan_edges2shoes")["trainer"]["epochs"] == 5
    assert composed("experiment=cyclegan_edges2shoes", "trainer.epochs=7")["trainer"]["epochs"] == 7
    assert composed(*paired)["choices"]["schedule"] == "linear"
    assert composed(*paired, "schedule=cosine")["choices"]["schedule"] == "cosine"
    assert composed("experiment=pix2pix_facades_reference", "schedule=cosine")["choices"]["schedule"] == "cosine"
    config = composed("experiment=cyclegan_cityscapes", "network/generator=unet", "data=edges2shoes")
    assert config["choices"]["network/generator"] == "unet"
    assert config["data"]["root"] == "datasets/edges2shoes"
    assert config["data"]["crop_size"] == 128  # the experiment still overrides it


def test_every_schedule_replaces_that_of_fastcut(capsys) -> None:
    for schedule, words in (("plateau", "patience:"), ("linear", "start: 0.5"), ("linear_last_quarter", "start: 0.75")):
        assert main(["train", "model=fastcut", f"schedule={schedule}", "--cfg", "job"]) == 0
        assert words in capsys.readouterr().out
