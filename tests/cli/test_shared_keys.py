"""Keys directly under ``network`` reach both networks, and keys that would do nothing are refused."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import TINY, assert_same_bits
from warm import Warm

from gantrain.cli.arguments import split
from gantrain.cli.compose import complete, compose_once
from gantrain.cli.config_files import TRUSTED
from gantrain.cli.main import main
from gantrain.errors import ConfigError


def networks(*typed: str, flags: tuple[str, ...] = ()) -> dict[str, dict]:
    """The keys of both networks, by side."""
    config = complete(compose_once("train", flags, [*typed, "name=run"]))
    return {side: config["network"][side] for side in ("generator", "discriminator")}


def refusal(*typed: str) -> str:
    with pytest.raises(ConfigError) as refused:
        networks(*typed)
    return str(refused.value)


@pytest.mark.parametrize(
    "family", ["dcgan", "mlp", "resnet_9blocks", "resnet_textbook", "unet", "unet_resize", "mlp_dropout"]
)
def test_shared_keys_reach_every_generator(family: str) -> None:
    typed = [f"network/generator={family}", "network/discriminator=mlp"]
    found = networks(*typed, "network.norm=spectral", "network.width=6", "network.dropout=0.25")["generator"]
    assert found["norm"] == "spectral"
    assert found.get("hidden", found.get("width")) == 6
    assert found.get("dropout", 0.25) == 0.25


def test_a_key_of_one_side_beats_that_of_both() -> None:
    found = networks("network.norm=spectral", "network.generator.norm=none")
    assert (found["generator"]["norm"], found["discriminator"]["norm"]) == ("none", "spectral")


@pytest.mark.parametrize("model", ["dcgan", "sgan"])
@pytest.mark.parametrize("family", ["dcgan", "mlp", "patchgan", "patchgan_textbook", "pixelgan"])
def test_shared_keys_reach_every_discriminator_whatever_its_model_prefers(family: str, model: str) -> None:
    groups = [f"model={model}", "network/generator=mlp", f"network/discriminator={family}"]
    found = networks(*groups, "network.norm=batch", "network.width=6", "network.dropout=0.25")["discriminator"]
    assert found["norm"] == "batch"
    assert found.get("hidden", found.get("width")) == 6
    assert found.get("dropout", 0.25) == 0.25


def test_a_file_of_a_user_sets_shared_keys_too() -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/mine.yaml").write_text("# @package _global_\nnetwork:\n  norm: spectral\n")
    found = networks("experiment=mine", flags=("--config-dir", "conf"))
    assert {keys["norm"] for keys in found.values()} == {"spectral"}


def test_a_shared_key_that_no_network_reads_is_refused() -> None:
    message = refusal("network/discriminator=patchgan", "network.dropout=0.3")
    for word in ("network.dropout=0.3", "network/generator=dcgan", "network/discriminator=patchgan"):
        assert word in message
    typed = ["network.generator.width=8", "network.discriminator.width=8", "network.width=4"]
    assert "network.width=4" in refusal(*typed)
    assert "network.generator.width=... or network.discriminator.width=..." in refusal(*typed)


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("demo=digits2stripes", "data=..."),
        ("network_defaults.norm=instance", "network.norm=..."),
        ("network_defaults.init=xavier", "network.generator.init=... and network.discriminator.init=..."),
        ("model=sgan discriminator_defaults.norm=batch", "network.discriminator.norm=..."),
        ("+network_defaults.depth=3", "no network here has such a key"),
        ("network.generator=5 network_defaults.init=xavier", "give network.discriminator.init=..."),
        ("~network.generator network_defaults.init=xavier", "give network.discriminator.init=..."),
    ],
)
def test_keys_of_files_are_refused_on_the_command_line(typed: str, instead: str) -> None:
    message = refusal(*typed.split())
    assert typed.split()[-1].partition("=")[0] in message
    assert instead in message


@pytest.mark.parametrize(
    "typed",
    [
        "launcher=joblib",
        "sweeper=optuna",
        "hydra/launcher=joblib",
        "sweep.skip_done=false",
        "hydra.sweep.dir=x",
        "launcher=joblib hydra.launcher.n_jobs=2",
    ],
)
def test_keys_of_a_sweep_are_refused_in_a_single_run(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, *typed.split()]) == 2
    message = capsys.readouterr().err
    assert typed.split()[0] in message
    assert "--multirun" in message
    assert not Path("checkpoints").exists()


def test_the_command_of_a_run_of_a_sweep_trains_the_same_alone() -> None:
    typed = [*TINY, "trainer.steps=1", "trainer.save_every=1"]
    assert main(["train", "-m", *typed, "sweep.skip_done=false", "seed=3"]) == 0
    (page,) = Path("checkpoints").glob("sweeps/*/*/index.html")
    assert "skip_done" not in page.read_text()
    command = re.search(r"<code>gantrain (train [^<]*)</code>", page.read_text())
    assert command is not None
    words = shlex.split(html.unescape(command[1]))
    assert main(words) == 0  # It is that run, which is finished.
    assert not list(Path("checkpoints").glob("*/step_1.pt"))
    assert main([word for word in words if not word.startswith("checkpoints_dir=")]) == 0
    (alone,) = Path("checkpoints").glob("*/step_1.pt")
    models = [torch.load(path, weights_only=True)["model"] for path in (alone, page.parent / alone.name)]
    assert_same_bits(*models)


@pytest.mark.parametrize(
    ("typed", "flags", "overrides"),
    [
        (["--info"], ["--info=all"], []),
        (["-i", "seed=1"], ["--info=all"], ["seed=1"]),
        (["--info", "config", "seed=1"], ["--info", "config"], ["seed=1"]),
        (["seed=1", "--info", "--resolve"], ["--info=all", "--resolve"], ["seed=1"]),
        (["--cfg", "job", "-p", "model"], ["--cfg", "job", "-p", "model"], []),
    ],
)
def test_a_flag_whose_value_is_optional(typed: list[str], flags: list[str], overrides: list[str]) -> None:
    assert split(typed) == (flags, overrides)


def test_a_wrong_value_of_info_is_refused() -> None:
    with pytest.raises(ConfigError, match="--info needs all, config, .* not nope"):
        split(["--info", "nope"])


@pytest.mark.parametrize("typed", [["-p", "model"], ["--package=model"], ["-p"], ["-p", "model", "--info"]])
def test_a_package_is_refused_without_what_shows_it(typed: list[str]) -> None:
    with pytest.raises(ConfigError, match="-p needs a value|--cfg job --package"):
        split(typed)


# ---- files of users with the names of gantrain's


@pytest.mark.parametrize("name", ["optimizer/adam.yaml", "train.yaml", "recipe/dcgan_digits.yaml", "model/gan.yaml"])
@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config-dir=conf", "--cfg", "job"],
        ["train", "-m", "-cd", "conf", "seed=1,2"],
        ["train", "hydra.searchpath=[file://conf]"],
    ],
)
def test_a_file_that_would_be_ignored_is_refused(name: str, words: list[str], capsys) -> None:
    path = Path("conf", name)
    path.parent.mkdir(parents=True)
    path.write_text("name: mine\n")
    assert main([*words, *TINY, "dry_run=true"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"conf/{name}" in message
    assert f"my_{path.name}" in message


def test_an_equal_copy_of_a_file_is_not_refused(capsys) -> None:
    Path("conf/optimizer").mkdir(parents=True)
    Path("conf/optimizer/adam.yaml").write_bytes((TRUSTED[-1] / "optimizer/adam.yaml").read_bytes())
    assert main(["train", "--config-dir", "conf", *TINY, "dry_run=true"]) == 0, capsys.readouterr().err


def test_info_says_which_files_are_read(warm: Warm) -> None:
    """In a new process, since Hydra leaves its logging on."""
    shown = warm.run(["-m", "gantrain", "train", "--info", "searchpath"])
    assert shown.returncode == 0
    assert str(TRUSTED[-1]) in shown.stdout.splitlines()[0]
