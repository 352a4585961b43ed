"""The TensorBoard logger, read by TensorBoard itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from needs import needs
from pages import logged_lines
from PIL import Image

OFTEN = ["trainer.log_every=2", "trainer.image_every=4"]


def board(name: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(f"checkpoints/{name}", size_guidance={"tensors": 0, "scalars": 0, "images": 0}).Reload()


def test_tensorboard_has_curves_images_and_hyper_parameters(train) -> None:
    needs("tensorboard")
    from tensorboard.plugins.hparams import plugin_data_pb2

    train("run", "logger=tensorboard", "trainer.steps=4", "optimizer.lr=0.01", *OFTEN)
    events = board("run")
    for name in ("g", "d_real"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert points == [(line["step"], pytest.approx(line[name])) for line in logged_lines("run")]
    (tag,) = events.Tags()["images"]
    (image,) = events.Images(tag)
    assert image.step == 4
    (file,) = Path("checkpoints/run/images").glob("step_4_*.png")
    assert (image.width, image.height) == Image.open(file).size
    metadata = {tag: events.SummaryMetadata(tag).plugin_data.content for tag in events.PluginTagToContent("hparams")}
    contents = {tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in metadata.items()}
    (start,) = [data.session_start_info for data in contents.values() if data.HasField("session_start_info")]
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["model.name"].string_value == "dcgan"
    (experiment,) = [data.experiment for data in contents.values() if data.HasField("experiment")]
    assert {metric.name.tag for metric in experiment.metric_infos} == set(logged_lines("run")[0]) - {"step"}


def test_tensorboard_has_no_point_twice_after_a_resume(train) -> None:
    needs("tensorboard")
    train("run", "trainer.steps=2", "trainer.log_every=1")  # Not logged then, but present in the end.
    often = ["logger=tensorboard", "trainer.log_every=1"]
    train("run", *often, "trainer.steps=6", "trainer.save_every=4", "trainer.keep=0")
    Path("checkpoints/run/step_6.pt").unlink()  # As after a kill before it was written.
    train("run", *often, "trainer.steps=8")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6, 7, 8]
    train("run", *often, "trainer.steps=2", "resume=never")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2]


def test_tensorboard_gets_what_was_logged_without_it(train) -> None:
    needs("tensorboard")
    often = ["trainer.log_every=1", "trainer.image_every=2"]
    train("run", "logger=tensorboard", "trainer.steps=2", *often)
    train("run", "trainer.steps=4", *often)
    train("run", "logger=tensorboard", "trainer.steps=6", *often)
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6]
    (tag,) = board("run").Tags()["images"]
    assert [event.step for event in board("run").Images(tag)] == [2, 6]


def test_tensorboard_gets_again_what_a_killed_run_had_not_flushed(train) -> None:
    needs("tensorboard")
    train("run", "logger=tensorboard", "trainer.steps=4", "trainer.log_every=1")
    Path("checkpoints/run/tensorboard_step.txt").write_text("2")  # Later steps may not have arrived.
    train("run", "logger=tensorboard", "trainer.steps=6", "trainer.log_every=1")
    assert [event.step for event in board("run").Scalars("g")] == [1, 2, 3, 4, 5, 6]
