"""The help of commands and of single keys, and completion of values."""

from __future__ import annotations

import re

import pytest

from gantrain.cli.help import completed
from gantrain.cli.main import main


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 0
    return capsys.readouterr().out


def test_the_help_of_train_has_a_line_for_each_key(capsys) -> None:
    lines = shown(capsys, "train", "--help", "model=cyclegan").splitlines()
    (line,) = (line for line in lines if line.startswith("model.pool_size="))
    assert re.fullmatch(r"model\.pool_size=50 +\(int >= 0\) Number of generated images .* per domain .*", line)
    assert lines.index("-- model") < lines.index(line) < lines.index("-- network")
    assert any(line.startswith("model.loss=least_squares") and "(logistic|minimax|" in line for line in lines)
    assert not any("${" in line for line in lines)
    keys = lines[next(n for n, line in enumerate(lines) if line.startswith("name=")) : lines.index("== Flags ==")]
    assert [key for key in keys if "=" in key and "(" not in key] == []


def test_the_help_of_train_names_what_is_missing_and_own_files(capsys, tmp_path) -> None:
    assert "data.root=???" in shown(capsys, "train", "--help", "data=single")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [dcgan]\nname: mine\nstrange: 7\n")
    lines = shown(capsys, "train", "--help", "model=mine", "--config-dir", str(tmp_path)).splitlines()
    assert "model.strange=7" in lines  # Of a plug-in, which is not imported for help.
    assert "model.ema=0.5" in shown(capsys, "train", "--help", "-m", "seed=1,2", "model.ema=0.5")
    assert main(["train", "--help", "model=nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_the_help_of_other_commands_describes_their_keys(capsys) -> None:
    assert re.search(r"^memory=auto +\(auto\|whole\|strips\) .*strips", shown(capsys, "predict", "-h"), re.MULTILINE)
    assert "metrics.samples=" in shown(capsys, "help", "evaluate")
    assert re.search(
        r"^steps=7 +\(int >= 1 .*\) Steps that are timed", shown(capsys, "benchmark", "-h", "steps=7"), re.M
    )


def test_a_key_is_explained(capsys) -> None:
    text = shown(capsys, "help", "model.pool_size")
    assert text.startswith("model.pool_size: a whole number at least 0\n")
    assert "50:  model=cyclegan\n" in text
    assert "per domain" in text
    text = shown(capsys, "help", "network.discriminator.norm=batch")
    assert "one of batch, instance, none, spectral" in text
    assert "none:  model=wgan_gp" in text  # By way of a key that files refer to.
    assert "instance:  model=cut, cyclegan" in text
    assert "a whole number at least 18" in shown(capsys, "help", "export.opset")
    assert shown(capsys, "help", "benchmark.out").endswith("default: benchmark\n")
    assert "schedule.gamma" in shown(capsys, "help", "schedule")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["model.pol_size"], "model.pool_size"),
        (["lambda_l1"], "model.lambda_l1"),
        (["predict.memry"], "predict.memory"),
        (["warmup"], "benchmark.warmup"),
        (["a", "b"], "give one key"),
        (["--help"], "give one key"),
    ],
)
def test_a_mistyped_key_is_refused_with_a_suggestion(typed: list[str], meant: str, capsys) -> None:
    assert main(["help", *typed]) == 2
    assert re.fullmatch(rf"gantrain: .*{typed[0]}.*{re.escape(meant)}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train trainer.precision=b", ["trainer.precision=bfloat16"]),
        ("train model.ema=", []),
        ("benchmark trainer.precision=b", ["trainer.precision=bfloat16"]),
        ("predict memory=w", ["memory=whole"]),
        ("train network/generator=resnet network.generator.kernel=", [f"network.generator.kernel={n}" for n in (3, 4)]),
        ("help model.pool", ["model.pool_size"]),
        ("help export.ops", ["export.opset"]),
        ("help benchmark.w", ["benchmark.warmup"]),
    ],
)
def test_values_and_keys_are_completed(line: str, found: list[str]) -> None:
    command, *typed = line.split()
    assert completed(command, typed, line) == found
