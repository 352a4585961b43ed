"""gantrain in Python: the same as the commands, bit for bit, without traces in the process."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, assert_same_bits
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import gantrain
import gantrain.train as module
from gantrain.api import as_overrides
from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.training.trainer import Trainer

TYPED = [*TINY, "model=dcgan"]


def newest(folder: str | Path) -> dict[str, object]:
    state = Checkpoints(Path(folder)).load()
    return {key: state[key] for key in ("model", "updates", "ranks", "position")}


def test_training_from_python_is_that_of_the_command_bit_for_bit() -> None:
    assert main(["train", *TYPED, "trainer.steps=3", "name=command"]) == 0
    torch.manual_seed(9)
    run = gantrain.train(TYPED, trainer={"steps": 3}, name="python")
    assert run.folder == Path("checkpoints/python").absolute()
    assert_same_bits(newest(run.folder), newest("checkpoints/command"))


def test_a_run_is_resumed_measured_tested_and_loaded() -> None:
    run = gantrain.train(TYPED, trainer={"steps": 1, "log_every": 1}, name="run")
    assert run.resume(trainer={"steps": 2}) is run
    assert Checkpoints(run.folder).steps() == [1, 2]
    assert [line["step"] for line in list_of(run.losses())] == [1, 2]
    latents = run.model(step=1).latents(2, seed=0)
    assert run.model().sample(latents).shape[0] == 2
    assert (run.test(num=4) / "grid.png").is_file()
    (measured,) = run.evaluate(metrics="fid", **{"metrics.features": "digits", "metrics.samples": 8})
    assert measured["step"] == 2
    assert measured["fid"] > 0
    assert (run._repr_png_() or b"").startswith(b"\x89PNG")
    assert run.page.is_file()
    (file,) = run.export(format="safetensors")
    assert torch.equal(gantrain.load(file).sample(latents), run.model().sample(latents))
    run.predict(num=2, out="made")
    assert len(list(Path("made").iterdir())) == 2


def list_of(table: object) -> list[dict[str, object]]:
    return table if isinstance(table, list) else table.to_dict("records")  # type: ignore[attr-defined]


def test_the_state_of_hydra_and_torch_is_the_callers_again(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("x: 1\n")
    relative = os.path.relpath(tmp_path, Path(__file__).parent)
    torch.manual_seed(3)
    numbers, cfg = torch.get_rng_state(), HydraConfig.instance().cfg
    with initialize(config_path=relative, version_base="1.3"):
        gantrain.train(TYPED, trainer={"steps": 1, "deterministic": True})
        assert GlobalHydra.instance().is_initialized()
        assert compose("own").x == 1
    assert HydraConfig.instance().cfg == cfg
    assert torch.equal(torch.get_rng_state(), numbers)
    assert not torch.are_deterministic_algorithms_enabled()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_saves_and_is_raised_and_the_same_call_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    gantrain.train(TYPED, trainer={"steps": 4}, name="whole")
    poll = Trainer._poll

    def interrupted(self: Trainer, **options: Any) -> Any:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return poll(self, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gantrain.train(TYPED, trainer={"steps": 4}, name="stopped")
    assert Checkpoints(Path("checkpoints/stopped")).steps() == [2]
    gantrain.train(TYPED, trainer={"steps": 4}, name="stopped")
    assert_same_bits(newest("checkpoints/stopped"), newest("checkpoints/whole"))


def test_mistakes_are_exceptions() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dcgan'"):
        gantrain.train(model="dcgann")
    with pytest.raises(ConfigError, match=r"trainer\.steps"):
        gantrain.train(TYPED, trainer={"steps": "many"})
    with pytest.raises(ConfigError, match="one run"):
        gantrain.train(["-m", "seed=0,1"])
    with pytest.raises(ConfigError, match="no such folder"):
        gantrain.Run(Path("nowhere"))


def test_training_works_in_another_thread() -> None:
    thread = threading.Thread(target=gantrain.train, args=[TYPED], kwargs={"trainer": {"steps": 1}, "name": "run"})
    thread.start()
    thread.join()
    assert Checkpoints(Path("checkpoints/run")).steps() == [1]


def test_the_module_of_the_same_name_can_be_called() -> None:
    assert callable(module)
    with pytest.raises(ConfigError):
        gantrain.train(model="dcgann")


def test_keywords_are_overrides() -> None:
    settings = {
        "model": "dcgan",
        "data": {"root": "my images/a,b", "list": None, "flip": True, "range": [0, 1]},
        "network/generator": "mlp",
        "optimizer": {"lr": 1e-4, "betas": (0.5, 0.9)},
        "name": "true",
    }
    assert list(as_overrides(settings)) == [
        "model=dcgan",
        *("data.root='my images/a,b'", "data.list=null", "data.flip=true", "data.range=[0,1]"),
        *("network/generator=mlp", "optimizer.lr=0.0001", "optimizer.betas=[0.5,0.9]", "name='true'"),
    ]


def test_metrics_are_a_table() -> None:
    folder = Path("run")
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 5, "fid": 1.5}) + "\n")
    assert list_of(gantrain.Run(folder).metrics()) == [{"step": 5, "fid": 1.5}]
