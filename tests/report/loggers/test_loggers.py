"""Loggers beside the run folder, none of which can slow or stop a run."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from conftest import TINY
from needs import needs
from PIL import Image

from gantrain.cli.main import main
from gantrain.registry import LOGGERS
from gantrain.report.loggers import AsyncLogger, Logger, delivery, end_all
from gantrain.report.loggers.csv import CsvLogger

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


def logged(name: str) -> list[dict[str, float]]:
    """The lines of a run's own log, without the clock."""
    lines = [json.loads(text) for text in Path(f"checkpoints/{name}/losses.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("epoch", "kimg")} for line in lines]


# ---- which


@pytest.mark.parametrize("name", ["tensorboard", "visdom", "wandb", "mlflow"])
def test_one_that_lacks_its_package_is_refused_with_the_command_that_installs_it(
    name: str, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["train", *TINY, f"logger={name}"]) == 2
    message = capsys.readouterr().err
    assert f"pip install 'gantrain[{name}]'" in message
    assert message.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("logger=cvs", ["logger=cvs", "'csv'"]),
        ("logger=[csv,mlfow]", ["logger=[mlfow]", "'mlflow'"]),
        ("logger=csv,visdom", ["--multirun", "logger=[csv,visdom]"]),
        ("logger.visdom.port=1", ["logger.visdom.port=1", "logger=visdom"]),
        ("logger=visdom logger.visdom.prt=1", ["logger.visdom.prt=1", "'logger.visdom.port'"]),
        ("+logger.csv=true", ["logger.csv=True", "logger=NAME", "mlflow"]),
        ("+logger.x={{name: cvs}}", ["logger.x.name=cvs", "'csv'"]),
        ("logger=csv +logger.csv.folder=x", ["logger.csv.folder"]),
    ],
)
def test_a_mistake_in_the_choice_is_told_in_one_line(typed: str, said: list[str], capsys) -> None:
    words = typed.replace("{{", "{").replace("}}", "}").split(" ", 1 if "{" not in typed else 0)
    assert main(["train", *TINY, "trainer.steps=1", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in said:
        assert part in message


def test_several_take_the_same_at_once_and_none_takes_nothing(train) -> None:
    needs("tensorboard")
    train("both", "logger=[csv,tensorboard]", "trainer.steps=2")
    assert Path("checkpoints/both/losses.csv").exists()
    assert len(list(Path("checkpoints/both").glob("events.*"))) == 1
    train("neither", "logger=none", "trainer.steps=2")
    assert not Path("checkpoints/neither/losses.csv").exists()


# ---- csv


def table(name: str) -> list[dict[str, float]]:
    with Path(f"checkpoints/{name}/losses.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]


def test_csv_is_the_runs_log_and_goes_on_with_it(train) -> None:
    train("run", "logger=csv", "trainer.steps=4", *OFTEN)
    assert table("run") == logged("run")
    train("run", "logger=csv", "trainer.steps=8", *OFTEN)
    assert [row["step"] for row in table("run")] == [2, 4, 6, 8]
    train("late", "trainer.steps=4", *OFTEN)
    train("late", "logger=csv", "trainer.steps=6", *OFTEN)  # what went before is there too
    assert table("late") == logged("late")
    train("late", "logger=none", "trainer.steps=2", "resume=never")
    assert not Path("checkpoints/late/losses.csv").exists()


def test_csv_has_one_row_a_step_whatever_comes_when() -> None:
    Path("checkpoints/run").mkdir(parents=True)
    logger = LOGGERS.build({"name": "csv"}, folder=Path("checkpoints/run"))
    logger.begin(0, {}, [])
    assert table("run") == []
    logger.scalars(1, {"a": 1.0})
    logger.scalars(2, {"a": 2.0})
    logger.scalars(2, {"b": 3.0})  # a column more
    logger.scalars(3, {"a": 4.0})
    logger.scalars(3, {"b": 5.0})
    logger.scalars(4, {"b": 6.0})
    rows = [{"step": 1, "a": 1}, {"step": 2, "a": 2, "b": 3}, {"step": 3, "a": 4, "b": 5}, {"step": 4, "b": 6}]
    assert table("run") == rows
    logger.begin(1, {}, [{"step": 1, "a": 1.0}])
    logger.scalars(2, {"a": 7.0})
    assert table("run") == [rows[0], {"step": 2, "a": 7}]


# ---- TensorBoard


def board(name: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(f"checkpoints/{name}", size_guidance={"tensors": 0, "scalars": 0, "images": 0}).Reload()


def test_tensorboard_has_curves_images_and_hyper_parameters_with_their_figures(train) -> None:
    needs("tensorboard")
    from tensorboard.plugins.hparams import plugin_data_pb2

    train("run", "logger=tensorboard", "trainer.steps=4", "optimizer.lr=0.01", *OFTEN)
    events = board("run")
    for name in ("g", "d_real"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(line["step"], pytest.approx(line[name])) for line in logged("run")]
    (tag,) = events.Tags()["images"]
    (image,) = events.Images(tag)
    assert image.step == 4
    (file,) = Path("checkpoints/run/images").glob("step_4_*.png")
    assert (image.width, image.height) == Image.open(file).size
    metadata = {tag: events.SummaryMetadata(tag).plugin_data.content for tag in events.PluginTagToContent("hparams")}
    told = {tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in metadata.items()}
    (start,) = [data.session_start_info for data in told.values() if data.HasField("session_start_info")]
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["model.name"].string_value == "dcgan"
    (experiment,) = [data.experiment for data in told.values() if data.HasField("experiment")]
    assert {metric.name.tag for metric in experiment.metric_infos} == set(logged("run")[0]) - {"step"}


def test_tensorboard_shows_no_point_twice_when_a_run_goes_on(train) -> None:
    needs("tensorboard")
    train("run", "trainer.steps=2", "trainer.log_every=1")  # not logged, and there all the same in the end
    often = ["logger=tensorboard", "trainer.log_every=1"]
    train("run", *often, "trainer.steps=6", "trainer.save_every=4", "trainer.keep=0")
    Path("checkpoints/run/step_6.pt").unlink()  # as if it had been killed before it was written
    train("run", *often, "trainer.steps=8")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6, 7, 8]
    train("run", *often, "trainer.steps=2", "resume=never")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2]


def test_tensorboard_gets_what_was_logged_while_it_was_switched_off(train) -> None:
    needs("tensorboard")
    often = ["trainer.log_every=1", "trainer.image_every=2"]
    train("run", "logger=tensorboard", "trainer.steps=2", *often)
    train("run", "trainer.steps=4", *often)
    train("run", "logger=tensorboard", "trainer.steps=6", *often)
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6]
    (tag,) = board("run").Tags()["images"]
    assert [event.step for event in board("run").Images(tag)] == [2, 6]


def test_tensorboard_gets_anew_what_a_killed_run_had_not_brought_to_the_disk(train) -> None:
    needs("tensorboard")
    train("run", "logger=tensorboard", "trainer.steps=4", "trainer.log_every=1")
    Path("checkpoints/run/tensorboard_step.txt").write_text("2")  # of the rest nobody can be sure
    train("run", "logger=tensorboard", "trainer.steps=6", "trainer.log_every=1")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6]


# ---- a run never waits for a logger, nor fails by one


class Recorder(Logger):
    """Remembers what it is told; waits or fails where it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.was_called = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails = False

    def _take(self, *call: Any) -> None:
        self.was_called.set()
        self.may_go_on.wait()
        self.calls.append(call)
        if self.fails:
            raise RuntimeError("no\nmore")

    def begin(self, step: int, settings: Any, lines: Any) -> None:
        self._take("begin", step, list(lines))

    def scalars(self, step: int, values: Any) -> None:
        self._take("scalars", step, values)

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self._take("image", step, name)

    def end(self, status: str) -> None:
        self._take("end", status)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The logger that ``+logger.mine={name: mine}`` chooses."""
    made = Recorder()
    monkeypatch.setitem(LOGGERS._classes, "mine", lambda: made)
    return made


MINE = "+logger.mine={name: mine}"


def test_a_logger_is_told_where_a_run_begins_and_ends_and_all_between_in_order(recorder, train) -> None:
    train("run", MINE, "trainer.steps=4", *OFTEN)
    told = [call[:2] for call in recorder.calls]
    assert told == [("begin", 0), ("scalars", 2), ("scalars", 4), ("image", 4), ("end", "done")]
    recorder.calls.clear()
    train("run", MINE, "trainer.steps=6", *OFTEN)
    assert recorder.calls[0] == ("begin", 4, logged("run")[:2])
    assert [call[1] for call in recorder.calls[1:-1] if call[0] == "scalars"] == [6]


def test_a_logger_that_fails_costs_one_warning_and_the_run_ends_well(recorder, train, capsys) -> None:
    recorder.fails = True
    assert train("run", MINE, "trainer.steps=6", *OFTEN)["step"] == 6
    assert recorder.calls[-1] == ("end", "done")  # it is given every chance
    shown = capsys.readouterr().err
    assert shown.count("warning") == 1
    assert "warning: logger mine: no; training goes on" in shown


def test_a_logger_that_hangs_holds_up_neither_the_run_nor_its_end(recorder, train, capsys, monkeypatch) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", 0.1)
    monkeypatch.setattr(delivery, "WAITING", 3)
    recorder.may_go_on.clear()
    assert train("run", MINE, "trainer.steps=12", *OFTEN)["step"] == 12
    assert recorder.calls == []
    assert capsys.readouterr().err.count("warning: logger mine: is too slow") == 1
    recorder.may_go_on.set()


def test_loggers_end_side_by_side_so_that_the_wait_for_one_that_hangs_is_all_there_is() -> None:
    both = threading.Barrier(2, timeout=delivery.PATIENCE)

    class Ends(Recorder):
        def end(self, status: str) -> None:
            both.wait()

    posts = [served(Ends()) for _ in range(2)]
    for post, _ in posts:
        post.begin(0, {}, [])
    end_all([post for post, _ in posts], "done")
    assert [said for _, said in posts] == [[], []]


def test_a_run_that_crashes_says_so_to_its_loggers(recorder, capsys) -> None:
    typed = [*TINY, MINE, "name=run", "optimizer.lr=1e30", "trainer.steps=50", "trainer.log_every=1"]
    assert main(["train", *typed]) == 2
    kind, status = recorder.calls[-1]
    assert kind == "end"
    assert status.startswith("crashed: ")


def served(logger: Logger) -> tuple[AsyncLogger, list[str]]:
    said: list[str] = []
    return AsyncLogger("mine", logger, said.extend), said


def test_a_logger_that_ends_its_thread_is_told_and_goes_on() -> None:
    class Exits(Recorder):
        def scalars(self, step: int, values: Mapping[str, float]) -> None:
            raise SystemExit("no key")

    recorder = Exits()
    post, said = served(recorder)
    post.begin(0, {}, [])
    post.scalars(1, {"g": 1.0})
    post.end("done")
    assert recorder.calls[-1] == ("end", "done")
    assert said == ["warning: logger mine: no key; training goes on"]


def test_a_logger_that_cannot_be_made_is_a_line_and_leaves_no_folder(monkeypatch, capsys) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no server\nat all")

    monkeypatch.setattr(CsvLogger, "__init__", fail)
    assert main(["train", *TINY, "logger=csv"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gantrain: logger.csv can't be made: RuntimeError: no server")
    assert said.count("\n") == 1
    assert not Path("checkpoints").exists()


def test_only_so_many_images_wait() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    post, said = served(recorder)
    post.begin(0, {}, [])
    for step in range(50):
        post.image(step, "samples", Image.new("L", (1, 1)))
    recorder.may_go_on.set()
    post.end("done")
    assert [call[1] for call in recorder.calls if call[0] == "image"] == list(range(delivery.IMAGES))
    assert len(said) == 1
    post.begin(0, {}, [])  # as many again, now that those are through
    post.image(50, "samples", Image.new("L", (1, 1)))
    post.end("done")
    assert recorder.calls[-2] == ("image", 50, "samples")


def test_what_waits_is_forgotten_when_a_run_goes_back() -> None:
    recorder = Recorder()
    recorder.may_go_on.clear()
    post, said = served(recorder)
    post.begin(0, {}, [])
    recorder.was_called.wait()
    post.image(4, "samples", Image.new("L", (1, 1)))
    post.image(8, "samples", Image.new("L", (1, 1)))
    for step in range(1, 2000):  # more than may wait
        post.scalars(step, {"g": 1.0})
    post.begin(5, {}, [{"step": 5, "g": 1.0}])
    post.scalars(6, {"g": 2.0})
    recorder.may_go_on.set()
    post.end("done")
    told = [("begin", 0), ("begin", 5), ("image", 4), ("scalars", 6), ("end", "done")]
    assert [call[:2] for call in recorder.calls] == told
    assert len(said) == 1


def test_a_logger_of_ones_own_is_one_class(capsys) -> None:
    Path("my_logger.py").write_text(
        "from pathlib import Path\n"
        "from gantrain.registry import LOGGERS\n"
        "from gantrain.report.loggers import Logger\n"
        "@LOGGERS.register('diary')\n"
        "class Diary(Logger):\n"
        "    'Writes a diary.'\n"
        "    def __init__(self, *, greeting: str, run: str):\n"
        "        self.start = f'{greeting} {run}'\n"
        "    def scalars(self, step, values):\n"
        "        Path('diary.txt').write_text(f'{self.start}: {step} {sorted(values)}')\n"
    )
    Path("conf/logger").mkdir(parents=True)
    Path("conf/logger/diary.yaml").write_text("# @package logger.diary\nname: diary\ngreeting: dear\n")
    typed = [*TINY, "--config-dir", "conf", "plugins=[my_logger]", "logger=[csv,diary]", "trainer.steps=1", "name=run"]
    try:
        assert main(["train", *typed]) == 0
    finally:
        LOGGERS._classes.pop("diary", None)
        sys.modules.pop("my_logger", None)
    assert Path("diary.txt").read_text() == "dear run: 1 ['d_fake', 'd_real', 'g', 'lr_discriminator', 'lr_generator']"


# ---- wandb and mlflow, whose packages and servers are stood in for


def package(name: str, monkeypatch: pytest.MonkeyPatch, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


class FakeRun:
    """A run of wandb's: takes no step that is lower than its last."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.points: list[tuple[int, str]] = []
        self.exit_code: int | None = None
        self.sessions = 1

    def log(self, values: dict[str, Any], *, step: int) -> None:
        if not self.points or step >= self.points[-1][0]:
            self.points += [(step, name) for name in values]

    def finish(self, *, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def wandb_runs(monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeRun]:
    runs: dict[str, FakeRun] = {}

    def init(**options: Any) -> FakeRun:
        assert options["resume"] == "allow"
        if options["id"] in runs:
            runs[options["id"]].sessions += 1
        return runs.setdefault(options["id"], FakeRun(options))

    package(
        "wandb",
        monkeypatch,
        init=init,
        Image=lambda image, caption: image,
        util=SimpleNamespace(generate_id=lambda: f"id{len(runs)}"),
    )
    return runs


def test_wandb_gets_the_whole_run_in_one_run_of_its_own(wandb_runs, train) -> None:
    train("run", "trainer.steps=2", *OFTEN)
    typed = ["logger=wandb", "logger.wandb.project=p", "logger.wandb.mode=offline", *OFTEN]
    train("run", "trainer.steps=4", *typed)
    train("run", "trainer.steps=8", *typed)
    (run,) = wandb_runs.values()
    assert (run.options["name"], run.options["project"], run.options["mode"]) == ("run", "p", "offline")
    assert run.options["config"]["model.name"] == "dcgan"
    assert [step for step, name in run.points if name == "g"] == [2, 4, 6, 8]
    assert len([step for step, name in run.points if name == "samples"]) == 2
    assert (run.sessions, run.exit_code) == (2, 0)
    train("run", "trainer.steps=10", *OFTEN)  # without it
    train("run", "trainer.steps=12", *typed)
    assert [step for step, name in run.points if name == "g"] == [2, 4, 6, 8, 10, 12]
    train("run", "trainer.steps=2", "resume=never", *typed)
    assert len(wandb_runs) == 2


def test_wandb_gets_losses_and_figures_of_one_step_that_it_has_missed(wandb_runs, train) -> None:
    often = ["model=sgan", "trainer.log_every=2", "trainer.image_every=2"]
    train("run", "trainer.steps=4", *often)
    train("run", "trainer.steps=6", "logger=wandb", "logger.wandb.mode=offline", *often)
    (run,) = wandb_runs.values()
    for name in ("g", "accuracy"):
        assert [step for step, known in run.points if known == name] == [2, 4, 6]


class FakeMlflow:
    """The client of an MLflow server, as far as it is used."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, SimpleNamespace] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def create_run(self, experiment: str, *, run_name: str) -> Any:
        key = f"r{len(self.runs)}"
        self.runs[key] = SimpleNamespace(name=run_name, points=[], params={}, images=[], status="RUNNING")
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def update_run(self, key: str, *, status: str) -> None:
        self.runs[key].status = status

    def set_terminated(self, key: str, *, status: str) -> None:
        self.runs[key].status = status

    def get_run(self, key: str) -> Any:
        run = self.runs[key]
        return SimpleNamespace(data=SimpleNamespace(metrics={p[0]: p[2] for p in run.points}, params=run.params))

    def get_metric_history(self, key: str, name: str) -> list[Any]:
        return [SimpleNamespace(step=step) for metric, step, _ in self.runs[key].points if metric == name]

    def log_param(self, key: str, name: str, value: str) -> None:
        assert name not in self.runs[key].params  # MLflow takes no other value
        assert len(value) <= 500
        self.runs[key].params[name] = value

    def log_metric(self, key: str, name: str, value: float, *, timestamp: int, step: int) -> None:
        self.runs[key].points.append((name, step, value))

    def log_image(self, key: str, image: Image.Image, path: str) -> None:
        self.runs[key].images.append(path)


def test_mlflow_gets_the_whole_run_and_no_point_twice(monkeypatch, train, capsys) -> None:
    server = FakeMlflow()
    addresses = []

    def client(tracking_uri: str | None) -> FakeMlflow:
        addresses.append(tracking_uri)
        return server

    package("mlflow", monkeypatch, MlflowClient=client)
    train("run", "trainer.steps=2", *OFTEN)
    typed = ["logger=mlflow", "logger.mlflow.tracking_uri=http://there", *OFTEN]
    train("run", "trainer.steps=6", "trainer.save_every=4", "trainer.keep=0", *typed)
    Path("checkpoints/run/step_6.pt").unlink()
    train("run", "trainer.steps=8", *typed)
    (run,) = server.runs.values()
    assert [(step, value) for name, step, value in run.points if name == "g"] == [
        (line["step"], line["g"]) for line in logged("run")
    ]
    assert (run.name, run.status, run.params["model.name"]) == ("run", "FINISHED", "dcgan")
    assert any(path.startswith("images/step_8_") for path in run.images)
    train("run", "trainer.steps=9000", "trainer.max_minutes=1e-9", *typed)
    assert run.status == "KILLED"
    assert set(addresses) == {"http://there"}
    assert "warning" not in capsys.readouterr().err
    assert list(server.experiments) == ["gantrain"]
