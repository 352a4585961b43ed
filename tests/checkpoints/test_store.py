"""The checkpoints of a run: written in the background, and deleted as configured."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_states import saved, state_at
from conftest import TINY, assert_same_bits

from gantrain.checkpoints import file as checkpoint_file
from gantrain.checkpoints.store import Checkpoints, clone_to_cpu
from gantrain.checkpoints.upgrades import FORMAT
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.report import Report
from gantrain.runtime.run_lock import RunLock


def names() -> list[str]:
    return sorted(path.name for path in Path("run").iterdir())


# ---- writing in the background


def holding_back(monkeypatch) -> tuple[threading.Event, list[int]]:
    """Make writing wait for the event; the list contains the steps that have been written."""
    go, written = threading.Event(), []
    write = checkpoint_file.write

    def held(state: dict[str, Any], *paths: Path) -> None:
        assert go.wait(60)
        write(state, *paths)
        written.append(state["step"])

    monkeypatch.setattr(checkpoint_file, "write", held)
    return go, written


def test_a_state_may_change_while_it_is_written(run_folder: Path, monkeypatch) -> None:
    go, _ = holding_back(monkeypatch)
    checkpoints = Checkpoints(run_folder)
    state = state_at(1)
    checkpoints.save(state)
    for tensor in (state["model"]["weight"], state["updates"]["lists"][0][0], state["ranks"][0]["pool"][0]):
        tensor.zero_()
    state["config"]["name"] = "other"
    state["overrides"].append("more")
    go.set()
    checkpoints.wait()
    assert_same_bits(checkpoints.load(), {"format": FORMAT, **state_at(1)})


def test_a_copy_shares_no_memory_and_is_no_larger_than_necessary() -> None:
    whole = torch.arange(1000.0)
    state = {"a": whole[:3], "b": [whole], "c": (whole, [whole[5:]]), "d": "text", "e": None}
    copy = clone_to_cpu(state)
    assert_same_bits(copy, state)
    parts = [copy["a"], copy["b"][0], copy["c"][0], copy["c"][1][0]]
    assert len({part.untyped_storage().data_ptr() for part in (whole, *parts)}) == 5
    assert parts[0].untyped_storage().nbytes() == 12


def test_the_next_save_waits_for_the_last(run_folder: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run_folder)
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


def test_closing_waits_for_the_last_write(run_folder: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run_folder)
    checkpoints.save(state_at(1))
    threading.Timer(0.1, go.set).start()
    checkpoints.close()
    assert written == [1]


def test_a_failed_run_writes_its_last_checkpoint_before_it_unlocks(monkeypatch) -> None:
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
def test_a_failed_background_write_is_reported_once(run_folder: Path, way: str) -> None:
    checkpoints = saved(Checkpoints(run_folder), 1)
    (run_folder / "step_2.tmp").mkdir()  # It blocks the file.
    checkpoints.save(state_at(2))
    checkpoints._pool.submit(int).result()  # The write has been attempted.
    with pytest.raises(ConfigError, match=r"can't write run/step_2.pt: Is a directory"):
        checkpoints.save(state_at(3)) if way == "save" else getattr(checkpoints, way)()
    checkpoints.wait()
    assert checkpoints.load()["step"] == 1


def test_raise_pending_does_not_wait(run_folder: Path, monkeypatch) -> None:
    go, written = holding_back(monkeypatch)
    checkpoints = Checkpoints(run_folder)
    checkpoints.save(state_at(1))
    checkpoints.raise_pending()
    assert not written
    go.set()
    checkpoints.wait()


def test_nothing_is_written_into_the_folder_of_another_run(run_folder: Path) -> None:
    def claim() -> None:
        raise ConfigError("run is in use")

    checkpoints = Checkpoints(run_folder, claim=claim)
    for act in (checkpoints.raise_pending, lambda: checkpoints.save(state_at(1))):
        with pytest.raises(ConfigError, match="in use"):
            act()
    assert names() == []


# ---- deletion of old checkpoints


def test_keep_and_keep_every_choose_the_stored_checkpoints(run_folder: Path) -> None:
    saved(Checkpoints(run_folder, keep=2, keep_every=4), *range(1, 12))
    assert names() == ["step_10.pt", "step_11.pt", "step_4.pt", "step_8.pt"]


def test_by_default_all_checkpoints_are_stored(run_folder: Path) -> None:
    assert saved(Checkpoints(run_folder), 1, 2, 3).steps() == [1, 2, 3]


def test_the_best_checkpoint_is_a_hard_link_while_it_is_among_the_newest(run_folder: Path) -> None:
    checkpoints = saved(Checkpoints(run_folder, keep=1), 1, 2, best=2)
    assert (run_folder / "best.pt").samefile(run_folder / "step_2.pt")
    saved(checkpoints, 3, 4)
    assert names() == ["best.pt", "step_4.pt"]
    assert checkpoints.load("best")["step"] == 2
    saved(checkpoints, 5, best=5)
    assert checkpoints.load("best")["step"] == 5


def test_without_hard_links_the_best_checkpoint_is_written_twice(run_folder: Path, monkeypatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", fail)
    checkpoints = saved(Checkpoints(run_folder), 1, best=1)
    assert not (run_folder / "best.pt").samefile(run_folder / "step_1.pt")
    assert_same_bits(checkpoints.load("best"), checkpoints.load(1))


def test_a_kill_between_the_best_checkpoint_and_its_step_leaves_the_best(run_folder: Path, monkeypatch) -> None:
    """The run then resumes from the previous step and finds the same best checkpoint again."""
    checkpoints = saved(Checkpoints(run_folder), 1)
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


def test_a_checkpoint_that_could_not_be_deleted_is_deleted_later(run_folder: Path, monkeypatch) -> None:
    checkpoints = saved(Checkpoints(run_folder, keep=1), 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no")))
        saved(checkpoints, 2)
    assert checkpoints.steps() == [1, 2]
    assert saved(checkpoints, 3).steps() == [3]


def test_a_checkpoint_that_a_run_replaces_while_it_is_read_is_no_error(run_folder: Path, monkeypatch, capsys) -> None:
    saved(Checkpoints(run_folder), 1)
    read = checkpoint_file.read

    def raced(path: Path) -> dict[str, Any]:
        if path.name == "step_1.pt":
            saved(Checkpoints(run_folder), 2)
            path.unlink()
        return read(path)

    monkeypatch.setattr(checkpoint_file, "read", raced)
    assert Checkpoints(run_folder).load()["step"] == 2
    assert capsys.readouterr().err == ""


def test_only_temporary_files_of_a_killed_process_are_removed(run_folder: Path) -> None:
    saved(Checkpoints(run_folder), 1, best=1)
    for name in ("step_2.tmp", "best.tmp", "mine.tmp", "step_x.tmp", "notes.txt"):
        (run_folder / name).write_text("x")
    Checkpoints(run_folder).tidy()
    assert names() == ["best.pt", "mine.tmp", "notes.txt", "step_1.pt", "step_x.tmp"]


def test_resumed_and_restarted_runs_remove_temporary_files(train) -> None:
    run = Path("checkpoints/run")
    train("run", "trainer.steps=1")
    for also in ("trainer.steps=2", "resume=never"):
        (run / "step_9.tmp").write_bytes(b"half")
        train("run", "trainer.steps=1", also)
        assert not (run / "step_9.tmp").exists()


def test_save_minutes_adds_checkpoints(train) -> None:
    whole = train("whole", "trainer.steps=4", "trainer.keep=0")
    often = train("often", "trainer.steps=4", "trainer.keep=0", "trainer.save_minutes=1e-9")
    assert Checkpoints(Path("checkpoints/whole")).steps() == [4]
    assert Checkpoints(Path("checkpoints/often")).steps() == [1, 2, 3, 4]
    assert_same_bits(often["model"], whole["model"])
    assert main(["train", *TINY, "name=never", "trainer.save_minutes=0"]) == 2
