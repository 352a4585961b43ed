"""Every experiment trains, cites its paper and has its settings."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from conftest import MODELS, TRANSLATORS, newest
from yaml_files import CONFIGS, composed, files_of

from gantrain.cli.main import main


def header(group: str, name: str) -> str:
    """The comment at the beginning of a file, as one line."""
    lines = []
    for line in (CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def finite_losses(name: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in Path("checkpoints", name, "losses.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        assert all(math.isfinite(value) for value in line.values()), line
    return [{name: value for name, value in line.items() if not name.startswith("lr_")} for line in lines]


PAIRED = {"g_gan", "g_l1", "d_real", "d_fake"}
UNPAIRED = {"g_a", "g_b", "cycle_a", "cycle_b", "idt_a", "idt_b", "d_a", "d_b"}
CONTRASTED = {"g", "g_gan", "nce", "d_real", "d_fake"}
LOSSES = {"pix2pix": PAIRED, "colorization": PAIRED, "cyclegan": UNPAIRED, "cut": CONTRASTED}


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_trains_two_steps(experiment: str, made, capsys) -> None:
    chosen = composed(f"experiment={experiment}")
    typed = ["data.batch_size=4", "data.num_workers=0", "network.width=8", "trainer.steps=2", "trainer.accelerator=cpu"]
    typed.append("metrics=none")  # They need weights that are downloaded.
    if "warmup_critic_steps" in chosen["model"]:
        typed.append("model.warmup_critic_steps=2")
    translates = chosen["model"]["name"] in LOSSES
    if translates:
        # The discriminator with a receptive field of 286 pixels needs larger images.
        size = 96 if chosen["network"]["discriminator"].get("layers", 0) > 3 else 32
        typed += ["data.batch_size=2", "network.width=4", f"data.load_size={size + 4}", f"data.crop_size={size}"]
    if "blocks" in chosen["network"]["generator"]:
        typed.append("network.generator.blocks=1")
    if "nce_layers" in chosen["model"]:
        typed.append("model.nce_layers=[0,4,12]")
    narrow = [
        f"network.{side}.hidden=8" for side in ("generator", "discriminator") if "hidden" in chosen["network"][side]
    ]
    typed = [word for word in typed if len(narrow) < 2 or not word.startswith("network.width=")] + narrow
    root = made(chosen["choices"]["data"])
    assert main(["train", f"experiment={experiment}", *root, *typed, "name=run"]) == 0, capsys.readouterr().err
    state = newest("run")
    assert state["step"] == 2
    assert state["config"]["model"]["name"] == chosen["model"]["name"]
    losses = finite_losses("run")
    assert losses[0]["step"] == 2
    if translates:
        both = {"nce_y"} if chosen["model"].get("nce_idt") else set()
        assert losses[0].keys() - {"step", "epoch", "kimg"} == LOSSES[chosen["model"]["name"]] | both
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
    assert state["config"][group]["name"] == {"default": "constant"}.get(name, name.split("_")[0])
    assert len(finite_losses("run")) == 1


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_gives_its_paper_its_setting_and_its_result(experiment: str) -> None:
    text = header("experiment", experiment)
    assert text.startswith("@package _global_ ")
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", text)
    _, setting, expected = re.split(r"(?:Setting|Expected): ", text)
    assert len(setting) > 40
    if "no reference metric" in expected:
        return
    assert re.search(r"(FID|IS|SWD|log-likelihood|per-pixel) \d|misclassified|AMT, .* \d+\.\d \+-", expected), expected
    assert re.search(r"paper|mmagic|mimicry|StudioGAN|measured", expected)  # The number has a source.


def test_no_comment_is_without_a_source() -> None:
    assert [path.name for path in CONFIGS.rglob("*.yaml") if "from memory" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("model", [*MODELS, *TRANSLATORS])
def test_every_model_file_cites_its_paper(model: str) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{4,5}\b", header("model", model))


def test_every_model_is_tested_here() -> None:
    assert files_of("model") == sorted([*MODELS, *TRANSLATORS])


# The direction, load_size, crop_size, flip, batch_size and epochs in the appendices of the papers.
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
    **dict.fromkeys(["cut_cat2dog", "cut_horse2zebra"], ("a_to_b", *JITTER, 1, 400)),
    **dict.fromkeys(["fastcut_cat2dog", "fastcut_horse2zebra"], ("a_to_b", *JITTER, 1, 200)),
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


def test_every_translation_experiment_is_in_the_table_of_papers() -> None:
    ours = [
        name
        for name in files_of("experiment")
        if name.startswith(("pix2pix", "cyclegan", "colorization", "cut", "fastcut"))
    ]
    assert sorted(PAPERS) == [name for name in ours if not name.endswith("_reference")]


@pytest.mark.parametrize("experiment", sorted(PAPERS))
def test_every_translation_experiment_has_the_settings_of_its_paper(experiment: str) -> None:
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
        assert config["schedule"] == {"name": "linear", "start": 0.5, "extend": False}
    elif model["name"] == "cut":
        fast = experiment.startswith("fastcut")
        assert (model["lambda_nce"], model["nce_idt"], model["flip_equivariance"]) == (
            10 if fast else 1,
            not fast,
            fast,
        )
        assert (model["nce_layers"], model["num_patches"]) == ([0, 4, 8, 12, 16], 256)
        assert (model["nce_temperature"], model["head_width"], model["pool_size"]) == (0.07, 256, 0)
        assert (model["loss"], config["network"]["norm"]) == ("least_squares", "instance")
        for network in (config["network"]["generator"], config["network"]["discriminator"]):
            assert (network["antialias"], network["init"], network["init_gain"]) == (True, "xavier", 0.02)
        assert config["network"]["generator"]["blocks"] == 9
        assert config["schedule"] == {"name": "linear", "start": 0.75 if fast else 0.5, "extend": False}
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
def test_a_reference_differs_from_the_paper_only_as_in_its_header(experiment: str) -> None:
    theirs, papers = (flat(composed(f"experiment={e}")) for e in (experiment, experiment.removesuffix("_reference")))
    changed = {key: theirs.get(key) for key in theirs.keys() | papers.keys() if theirs.get(key) != papers.get(key)}
    choices = {key for key in changed if key.startswith("choices.")} - {"choices.experiment", "choices.recipe/schedule"}
    changed = {key: value for key, value in changed.items() if not key.startswith("choices.") and key != "expected"}
    if experiment.startswith("pix2pix"):
        assert choices == {"choices.schedule"}
        assert changed == {"schedule.name": "linear", "schedule.start": 0.5, "schedule.extend": False}
    else:
        assert choices == set()
        assert changed == {"model.lambda_identity": 0.5}
