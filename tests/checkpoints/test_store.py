"""The checkpoints of a run: written in the background, kept as configured, the newest that is not corrupt loaded."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, assert_same_bits

import gantrain
from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.file import CorruptCheckpointError
from gantrain.checkpoints.store import Checkpoints, clone_to_cpu
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.report import Report
from gantrain.runtime.run_lock import RunLock


def state_at(step: int) -> dict[str, Any]:
    """The smallest thing that passes for a run's state."""
    return {
        "step": step,
        "position": 3 * step,
        "rollbacks": 0,
        "images": 7,
        "fingerprint": "f",
        "overrides": ["seed=1"],
        "ranks": [{"means": {}, "pool": (torch.full((3,), float(step)),)}],
        "config": {"name": "run"},
        "spec": {},
        "model": {"weight": torch.full((2, 5), float(step)), "number": torch.tensor(step)},
        "updates": {"averages": None, "lists": [[torch.ones(2, dtype=torch.bfloat16)]]},
        "objective": {"metric": None},
    }


def names() -> list[str]:
    return sorted(path.name for path in Path("run").iterdir())


@pytest.fixture
def run() -> Path:
    Path("run").mkdir()
    return Path("run")


def saved(checkpoints: Checkpoints, *steps: int, best: int | None = None) -> Checkpoints:
    for step in steps:
        checkpoints.save(state_at(step), best=step == best)
    checkpoints.wait()
    return checkpoints


def spoil(path: Path) -> None:
    """Change a byte, and only under this name."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


# ---- in the background


def holding_back(monkeypatch) -> tuple[threading.Event, list[int]]:
    """Writing waits for the event; the list says which steps have been written."""
    go, written = threading.Event(), []
    write = checkpoint_file.write

    def held(state: dict[str, Any], *paths: Path) -> None:
        assert go.wait(60)
        write(state, *paths)
        written.append(state["step"])

    monkeypatch.setattr(checkpoint_file, "write", held)
    return go, written


def test_a_state_may_change_while_it_is_written(run: Path, monkeypatch) -> None:
    go, _ = holding_back(monkeypatch)
    checkpoints = Checkpoints(run)
    state = state_at(1)
    checkpoints.save(state)
    for tensor in (state["model"]["weight"], state["updates"]["lists"][0][0], state["ranks"][0]["pool"][0]):
        tensor.zero_()
    state["config"]["name"] = "other"
    state["overrides"].append("more")
    go.set()
    checkpoints.wait()
    assert_same_bits(checkpoints.load(), {"format": 3, **state_at(1)})


def test_a_copy_shares_no_memory_and_is_no_larger_than_it_must() -> None:
    whole = torch.arange(1000.0)
    state = {"a": whole[:3], "b": [whole], "c": (whole, [whole[5:]]), "d": "text", "e": None}
    copy = clone_to_cpu(state)
    assert_same_bits(copy, state)
    parts = [copy["a"], copy["b"][0], copy["c"][0], copy["c"][1][0]]
    assert len({part.untyped_storage().data_ptr() for part in (whole, *parts)}) == 5
    assert parts[0].untyped_storage().nbytes() == 12


def test_the_next_save_waits_for_the_last(run: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run)
    checkpoints.save(state_at(1))
    second = threading.Thread(target=checkpoints.save, args=(state_at(2),))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go.set()
    second.join()
    assert written[0] == 1
    checkpoints.wait()
    assert written == [1, 2]


def test_closing_lets_the_last_one_land(run: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run)
    checkpoints.save(state_at(1))
    threading.Timer(0.1, go.set).start()
    checkpoints.close()
    assert written == [1]


def test_a_run_that_fails_has_its_last_checkpoint_before_another_may_start(monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    at_the_end = []
    advance, let_go = Report.advance, RunLock.__exit__

    def failing(self: Report, done: int) -> None:
        if done == 2:
            threading.Timer(0.2, go.set).start()
            raise ConfigError("out of luck")
        advance(self, done)

    def noted(self: RunLock, *error: Any) -> None:
        at_the_end.extend(written)
        let_go(self, *error)

    monkeypatch.setattr(Report, "advance", failing)
    monkeypatch.setattr(RunLock, "__exit__", noted)
    assert main(["train", *TINY, "name=run", "trainer.steps=3", "trainer.save_every=1"]) == 2
    assert at_the_end == [1]


@pytest.mark.parametrize("way", ["wait", "raise_pending", "save"])
def test_a_failure_in_the_background_comes_out_once(run: Path, way: str) -> None:
    checkpoints = saved(Checkpoints(run), 1)
    (run / "step_2.tmp").mkdir()  # in the way
    checkpoints.save(state_at(2))
    checkpoints._pool.submit(int).result()  # it has been tried
    with pytest.raises(ConfigError, match=r"can't write run/step_2.pt: Is a directory"):
        checkpoints.save(state_at(3)) if way == "save" else getattr(checkpoints, way)()
    checkpoints.wait()
    assert checkpoints.load()["step"] == 1


def test_raise_pending_does_not_wait(run: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run)
    checkpoints.save(state_at(1))
    checkpoints.raise_pending()
    assert not written
    go.set()
    checkpoints.wait()


def test_nothing_is_written_into_a_folder_that_is_another_runs(run: Path) -> None:
    def claim() -> None:
        raise ConfigError("run is in use")

    checkpoints = Checkpoints(run, claim=claim)
    for act in (checkpoints.raise_pending, lambda: checkpoints.save(state_at(1))):
        with pytest.raises(ConfigError, match="in use"):
            act()
    assert names() == []


# ---- which are kept


def test_the_newest_stay_and_those_of_every_so_many_steps(run: Path) -> None:
    saved(Checkpoints(run, keep=2, keep_every=4), *range(1, 12))
    assert names() == ["step_10.pt", "step_11.pt", "step_4.pt", "step_8.pt"]


def test_all_stay_where_nothing_is_said(run: Path) -> None:
    assert saved(Checkpoints(run), 1, 2, 3).steps() == [1, 2, 3]


def test_the_best_stays_and_takes_no_room_while_it_is_among_the_newest(run: Path) -> None:
    checkpoints = saved(Checkpoints(run, keep=1), 1, 2, best=2)
    assert (run / "best.pt").samefile(run / "step_2.pt")
    saved(checkpoints, 3, 4)
    assert names() == ["best.pt", "step_4.pt"]
    assert checkpoints.load("best")["step"] == 2
    saved(checkpoints, 5, best=5)
    assert checkpoints.load("best")["step"] == 5


def test_a_disk_without_second_names_gets_the_best_twice(run: Path, monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", fail)
    checkpoints = saved(Checkpoints(run), 1, best=1)
    assert not (run / "best.pt").samefile(run / "step_1.pt")
    assert_same_bits(checkpoints.load("best"), checkpoints.load(1))


def test_who_is_killed_between_the_best_and_its_step_has_the_best(run: Path, monkeypatch) -> None:
    """The run then goes on from the step before, whose state knows nothing of that best yet, and finds it again."""
    checkpoints = saved(Checkpoints(run), 1)
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == "step_2.pt":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    checkpoints.save(state_at(2), best=True)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.wait()
    assert checkpoints.load("best")["step"] == 2
    assert checkpoints.load()["step"] == 1


def test_one_that_cannot_be_removed_now_is_tried_again(run: Path, monkeypatch) -> None:
    checkpoints = saved(Checkpoints(run, keep=1), 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no")))
        saved(checkpoints, 2)
    assert checkpoints.steps() == [1, 2]
    assert saved(checkpoints, 3).steps() == [3]


def test_only_what_a_killed_process_left_is_tidied_away(run: Path) -> None:
    saved(Checkpoints(run), 1, best=1)
    for name in ("step_2.tmp", "best.tmp", "mine.tmp", "step_x.tmp", "notes.txt"):
        (run / name).write_text("x")
    Checkpoints(run).tidy()
    assert names() == ["best.pt", "mine.tmp", "notes.txt", "step_1.pt", "step_x.tmp"]


def test_a_run_that_goes_on_and_one_that_starts_over_tidy_up(train) -> None:
    run = Path("checkpoints/run")
    train("run", "trainer.steps=1")
    for also in ("trainer.steps=2", "resume=never"):
        (run / "step_9.tmp").write_bytes(b"half")
        train("run", "trainer.steps=1", also)
        assert not (run / "step_9.tmp").exists()


# ---- which is loaded


def test_a_damaged_one_is_named_and_the_newest_whole_one_taken(run: Path, capsys) -> None:
    checkpoints = saved(Checkpoints(run), 1, 2, 3, 4)
    spoil(run / "step_3.pt")
    (run / "step_4.pt").write_bytes(b"")
    assert checkpoints.load()["step"] == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in told] == [" can't read run/step_4.pt", " can't read run/step_3.pt"]
    assert all(line.endswith("; trying the previous checkpoint") for line in told)
    with pytest.raises(CorruptCheckpointError, match=r"step_3.pt: corrupt \(checksum mismatch\)"):
        checkpoints.load(3)
    # and the next save clears those of later steps away
    saved(checkpoints, 3)
    assert checkpoints.steps() == [1, 2, 3]
    assert checkpoints.load()["step"] == 3


def test_the_best_is_taken_where_no_other_is_whole(run: Path) -> None:
    checkpoints = saved(Checkpoints(run, keep=1), 1, 2, best=1)
    spoil(run / "step_2.pt")
    assert checkpoints.load()["step"] == 1
    (run / "step_2.pt").unlink()
    assert checkpoints.load()["step"] == 1
    spoil(run / "best.pt")
    with pytest.raises(ConfigError, match="all checkpoints in run are corrupt; give resume=never to start over"):
        checkpoints.load()


def test_what_is_not_there_is_said_with_what_is(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint in run \(found: none\)"):
        Checkpoints(run).load()
    for name in ("step_007.pt", "step_x.pt", "step_٣.pt", "step_-1.pt", "step_1.pt.bak"):
        (run / name).write_text("x")
    assert Checkpoints(run).steps() == []
    checkpoints = saved(Checkpoints(run), 2, 10)
    with pytest.raises(ConfigError, match=r"no step 3 in run \(found: step_2, step_10\)"):
        checkpoints.load(3)
    with pytest.raises(ConfigError, match=r"no best.pt in run \(found: step_2, step_10\)"):
        checkpoints.load("best")


def test_every_command_skips_a_corrupt_newest_checkpoint(train, capsys) -> None:
    run = Path("checkpoints/run")
    settings = ["trainer.steps=4", "trainer.save_every=2", "trainer.keep=0", "trainer.log_every=1"]
    whole = train("run", *settings)
    lines = (run / "losses.jsonl").read_text()
    spoil(run / "step_4.pt")
    capsys.readouterr()
    assert gantrain.load(run) is not None
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert main(["test", f"run={run}", "num=2"]) == 0
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert (run / "results/test_2").is_dir()
    assert train("next", f"init_from={run}", "trainer.steps=1")["step"] == 1
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    again = train("run", *settings)
    assert "step_4.pt: corrupt" in capsys.readouterr().err
    assert_same_bits(again, whole)
    assert (run / "losses.jsonl").read_text() == lines


def test_a_run_of_which_only_the_best_is_left_goes_on_from_it(train) -> None:
    run = Path("checkpoints/run")
    settings = ["trainer.steps=3", "trainer.log_every=1", "trainer.save_every=1", "trainer.keep=0"]
    whole = train("run", *settings, "objective.metric=d_real", "objective.mode=max")
    step = Checkpoints(run).load("best")["step"]
    for path in run.glob("step_*.pt"):
        path.unlink()
    again = train("run", *settings, "trainer.steps=4", "objective.metric=d_real", "objective.mode=max")
    assert Checkpoints(run).steps() == list(range(step + 1, 5))
    assert again["step"] == 4
    assert whole["step"] == 3


def test_minutes_bring_checkpoints_besides(train) -> None:
    whole = train("whole", "trainer.steps=4", "trainer.keep=0")
    often = train("often", "trainer.steps=4", "trainer.keep=0", "trainer.save_minutes=1e-9")
    assert Checkpoints(Path("checkpoints/whole")).steps() == [4]
    assert Checkpoints(Path("checkpoints/often")).steps() == [1, 2, 3, 4]
    assert_same_bits(often["model"], whole["model"])
    assert main(["train", *TINY, "name=never", "trainer.save_minutes=0"]) == 2
