"""The command line: help, completion, names of runs, sweeps, and plugins."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import TINY, newest
from PIL import Image
from warm import Warm

from gantrain.cli.main import main
from gantrain.config.naming import run_name
from gantrain.errors import ConfigError


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``gantrain`` in a new interpreter, which also reports whether torch was imported."""
    code = (
        "import sys; from gantrain.cli.main import main; status = main(sys.argv[1:]);"
        "print('TORCH', 'torch' in sys.modules, file=sys.stderr); sys.exit(status)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "gantrain test run="),
        ([], "gantrain test run="),
        (["train", "--help"], "lsgan"),
        (["test", "--help"], "network_weights=auto"),
        (["help", "model.pool_size"], "50:  model=cyclegan"),
        (["train", "--cfg", "job"], "critic_steps: 1"),
        (["--version"], "gantrain 0."),
    ],
)
def test_help_and_version_do_not_import_torch(arguments: list[str], shown: str) -> None:
    result = command(*arguments)
    assert result.returncode == 0, result.stderr
    assert shown in result.stdout
    assert result.stderr == "TORCH False\n"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("gantrain train mod", ["model.", "model="]),
        ("gantrain train model=wgan", ["model=wgan", "model=wgan_gp"]),
        ("gantrain train model=wgan model.cl", ["model.clip="]),
        ("gantrain train --config-dir mine model=min", ["model=mine"]),
        ("gantrain test ru", ["run="]),
        ("gantrain train model.loss=h", ["model.loss=hinge"]),
        ("gantrain t", ["train", "test"]),
        (
            "gantrain ",
            [
                "train",
                "resume",
                "test",
                "predict",
                "evaluate",
                "export",
                "compare",
                "reproduce",
                "runs",
                "list",
                "migrate",
                "doctor",
                "benchmark",
                "data",
            ],
        ),
        ("gantrain list x", []),
    ],
)
def test_completion_depends_on_the_sub_command(line: str, completed: list[str]) -> None:
    Path("mine/model").mkdir(parents=True)
    Path("mine/model/mine.yaml").write_text("defaults: [dcgan]\n")
    result = command("-sc", "query=bash", COMP_LINE=line)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split()) == sorted(completed)
    assert result.stderr == "TORCH False\n"


def test_completion_is_installed_by_the_line_in_the_help(capsys) -> None:
    assert main(["-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.strip().endswith("hydra_bash_completion gantrain")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["train", "--cfg", "job"],
        ["test", "--help"],
        ["list"],
        ["data"],
        ["data", "lmdb", "--help"],
        ["data", "check", "data=digits", "quick=true"],
        ["compare"],
        ["train", *TINY, "dry_run=true"],
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_the_command_silently_as_other_tools(arguments: list[str], monkeypatch, capfd) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as ended:
            sys.exit(main(arguments))
    assert ended.value.code == 141  # As a shell reports a tool that SIGPIPE has ended.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("words", ["--help", "train --info config", "list"])
def test_head_ends_a_long_output(words: str) -> None:
    line = f"{shlex.quote(sys.executable)} -m gantrain {words} | head -n 1; echo status ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] in ("status 141", "status 0")  # It may have written all before.


def test_a_full_disk_is_reported_in_one_line(capsys, monkeypatch) -> None:
    with Path("/dev/full").open("w") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert main(["--help"]) == 1
    assert re.fullmatch("gantrain: .*No space left on device.*\n", capsys.readouterr().err)


def test_a_sweep_creates_a_folder_of_each_run_that_test_accepts() -> None:
    typed = [*TINY, "trainer.steps=2"]
    assert main(["train", "-m", *typed, "model=dcgan,cgan", "optimizer.lr=1e-4,2e-4"]) == 0
    made = set()
    for page in Path("checkpoints").glob("sweeps/*/*/index.html"):
        run = page.parent
        assert main(["test", f"run={run}", "num=4"]) == 0
        assert (run / "results" / "test_2" / "index.html").exists()
        config = newest(run.name)["config"]
        model, lr = config["model"]["name"], config["optimizer"]["lr"]
        lr_override = f"optimizer.lr={lr:.0e}"  # 1e-04
        assert run.name == run_name(f"{model}_digits", [*typed, lr_override], first=["optimizer.lr"])
        made.add((model, lr))
    assert made == {(model, lr) for model in ("dcgan", "cgan") for lr in (1e-4, 2e-4)}


def test_a_failing_run_sets_the_exit_status_but_does_not_stop_a_sweep(capsys) -> None:
    assert main(["train", "-m", *TINY, "trainer.steps=1", "model.loss=nonsense,hinge"]) == 2
    assert "model.loss" in capsys.readouterr().err
    (run,) = Path("checkpoints").glob("sweeps/*/*/index.html")
    assert newest(run.parent.name)["config"]["model"]["loss"] == "hinge"


def test_a_refused_sweep_leaves_no_files() -> None:
    assert main(["train", "-m", "data=single", "data.root=nowhere,nothing"]) == 2
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "typed",
    [
        ["hydra.job.chdir=true", "hydra.run.dir=out"],
        ["hydra.job.chdir=true", "hydra.run.dir='${oc.env:GANTRAIN_SCRATCH}'"],
        ["hydra.run.dir=out", "hydra.output_subdir=x"],
    ],
)
def test_paths_of_a_run_are_relative_to_where_it_was_typed(typed: list[str]) -> None:
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"images/{number}.png")
    data = ["data=single", "data.root=images", "data.crop_size=16", "name=x", "checkpoints_dir=here/runs"]
    assert main(["train", *TINY, "trainer.steps=1", *data, *typed]) == 0
    assert Path("here/runs/x/step_1.pt").is_file()
    assert main(["test", "run=here/runs/x", "num=4", "out=made", *typed]) == 0
    assert Path("made/index.html").is_file()


def test_a_typed_length_in_any_unit_replaces_the_default() -> None:
    assert main(["train", *TINY, "trainer.kimg=0.01", "name=short"]) == 0
    state = newest("short")
    assert state["step"] == 3  # The third batch of four contains the tenth image.
    assert state["config"]["trainer"]["steps"] is None
    assert main(["train", *TINY, "trainer.epochs=0.002", "name=short2"]) == 0
    assert newest("short2")["step"] == 3  # 9 of 4,500 images


def test_logs_are_reproducible_and_contain_step_epoch_and_kimg(train) -> None:
    train("one", "trainer.steps=5", "trainer.log_every=2")
    train("two", "trainer.steps=5", "trainer.log_every=2")
    logs = [Path(f"checkpoints/{name}/losses.jsonl").read_text() for name in ("one", "two")]
    assert logs[0] == logs[1]
    lines = [json.loads(line) for line in logs[0].splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert lines[-1]["kimg"] == 0.02
    assert lines[-1]["epoch"] == round(20 / 4500, 4)
    speeds = [json.loads(line) for line in Path("checkpoints/one/speed.jsonl").read_text().splitlines()]
    assert all(line["images_per_second"] > 0 and 0 <= line["data_wait"] < 1 for line in speeds)


def test_dry_run_prints_sizes_and_leaves_no_files(capsys) -> None:
    assert main(["train", "dry_run=true", "model=infogan", "model.latent_dim=62", "data.batch_size=64"]) == 0
    out = capsys.readouterr().out
    assert "(N, 74)" in out  # 62 noise dimensions, 10 categories, 2 continuous codes
    assert "(N, 1, 32, 32)" in out
    assert "steps of 64 images" in out
    assert "MiB" in out
    assert list(Path().iterdir()) == []


def test_dry_run_counts_the_parameters_of_the_checkpoint(train, capsys) -> None:
    state = train("run", "trainer.steps=1")
    count = sum(v.numel() for k, v in state["model"].items() if k.startswith("generator.") and k.endswith("weight"))
    count += sum(v.numel() for k, v in state["model"].items() if k.startswith("generator.") and k.endswith("bias"))
    capsys.readouterr()
    assert main(["train", *TINY, "dry_run=true"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("generator")]
    assert line.split()[-1] == f"{count:,}"


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float64"])
def test_every_precision_trains(precision: str, train) -> None:
    state = train("run", f"trainer.precision={precision}", "model=wgan_gp", "trainer.steps=2")
    weight = state["model"]["generator.layers.0.weight"]
    assert str(weight.dtype) == ("torch.float64" if precision == "float64" else "torch.float32")
    assert weight.isfinite().all()


def test_a_model_of_a_plugin_trains_resumes_and_is_tested(warm: Warm) -> None:
    def gantrain(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return warm.run(["-m", "gantrain", *arguments])  # A plugin must not be registered in this process.

    Path("my_models.py").write_text(
        "from gantrain.models.base import LatentGAN\n"
        "from gantrain.registry import MODELS\n"
        "@MODELS.register('mine')\n"
        "class Mine(LatentGAN):\n"
        "    'My own GAN.'\n"
        "    def __init__(self, *, strength: float, **others):\n"
        "        super().__init__(**others)\n"
        "        self.strength = strength\n"
        "    def generator_loss(self, fake, latent, labels):\n"
        "        loss, parts = super().generator_loss(fake, latent, labels)\n"
        "        return self.strength * loss, parts | {'mine': loss}\n"
    )
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/mine.yaml").write_text(
        "# @package _global_\ndefaults: [dcgan]\nmodel:\n  name: mine\n  strength: 2.0\n"
    )
    typed = ["train", "--config-dir", "conf", *TINY, "model=mine", "plugins=[my_models]", "name=mine"]
    first = gantrain([*typed, "trainer.steps=1"])
    assert first.returncode == 0, first.stderr
    again = gantrain([*typed, "trainer.steps=2"])
    assert again.returncode == 0, again.stderr
    assert re.search(r"Resuming checkpoints/mine .*step 1\b", again.stderr)
    assert "mine" in json.loads(Path("checkpoints/mine/losses.jsonl").read_text().splitlines()[-1])
    tested = gantrain(["test", "run=checkpoints/mine", "num=4", "plugins=[my_models]"])
    assert tested.returncode == 0, tested.stderr
    refused = gantrain([*typed, "trainer.steps=2", "model.strength=3"])
    commands = re.findall(r"gantrain ((?:train|resume) .*)", refused.stderr)
    resume = next(command for command in commands if "model.strength=3" not in command)
    assert gantrain(shlex.split(resume)).returncode == 0  # It contains --config-dir, too.
    untrusted = gantrain(["test", "run=checkpoints/mine", "num=4"])
    assert untrusted.returncode == 2
    assert "plugins=[my_models]" in untrusted.stderr
    assert "Traceback" not in untrusted.stderr


def test_imports_are_not_interrupted_by_garbage_collections(monkeypatch) -> None:
    seen = []

    def compose_training(*_: object) -> None:
        seen.append(gc.isenabled())
        raise ConfigError("a mistake")

    monkeypatch.setattr("gantrain.cli.compose.compose_training", compose_training)
    assert main(["train"]) == 2
    assert seen == [False]
    assert gc.isenabled()
