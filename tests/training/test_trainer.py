"""The training loop: when it logs, and what its page shows."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

import pytest
from conftest import TINY, assert_mentions
from pages import data_of, lines_of

from gantrain.cli.main import main


def test_logs_images_and_checkpoints_are_due_at_their_steps_and_the_last(train) -> None:
    every = ["trainer.log_every=2", "trainer.image_every=3", "trainer.save_every=4", "trainer.keep=0"]
    train("run", "trainer.steps=7", *every)
    run = Path("checkpoints/run")
    steps = [json.loads(line)["step"] for line in (run / "losses.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 7]
    assert sorted(path.name for path in (run / "images").iterdir()) == [
        "step_3_samples.png",
        "step_6_samples.png",
        "step_7_samples.png",
    ]
    assert sorted(path.name for path in run.glob("*.pt")) == ["step_4.pt", "step_7.pt"]


def test_logged_losses_are_means_over_the_steps_between(train) -> None:
    train("each", "trainer.steps=4", "trainer.log_every=1")
    train("both", "trainer.steps=4", "trainer.log_every=2")
    each, both = (
        [json.loads(line) for line in Path(f"checkpoints/{name}/losses.jsonl").read_text().splitlines()]
        for name in ("each", "both")
    )
    for number, line in enumerate(both):
        for name in ("d_real", "d_fake", "g"):
            mean = (each[2 * number][name] + each[2 * number + 1][name]) / 2
            assert line[name] == pytest.approx(mean, rel=1e-6)


class Text(html.parser.HTMLParser):
    """The words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.marked: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._tag == "mark":
            self.marked.append(data)


def test_the_page_shows_samples_curves_configuration_and_command(train) -> None:
    typed = ["model=sgan", "trainer.steps=4", "trainer.image_every=2", "trainer.log_every=1"]
    train("run", *typed)
    page = Text()
    source = Path("checkpoints/run/index.html").read_text()
    page.feed(source)
    run = Path("checkpoints/run")
    assert [line["url"] for line in lines_of(run, "images")] == [f"images/step_{n}_samples.png" for n in (2, 4)]
    lines = lines_of(run, "losses")
    assert lines == [json.loads(line) for line in (run / "losses.jsonl").read_text().splitlines()]
    values = {"d_real", "d_fake", "d_class", "g", "g_class", "lr_generator", "lr_discriminator"}
    assert set(lines[0]) == {"step", "epoch", "kimg", *values}
    assert "held_out_accuracy" in lines[-1]
    assert lines_of(run, "speed")[-1]["step"] == 4
    status = data_of(run, "status")
    assert (status["state"], status["step"], status["done"], status["total"]) == ("done", 4, 4, 4)
    assert (status["model"], status["data"], status["thumbnail"]) == ("sgan", "digits", "images/step_4_samples.png")
    assert "name: sgan" in page.words
    marked = {"steps: 4", "image_every: 2", "log_every: 1", "load_size: 16", "batch_size: 4"}
    marked |= {"every: 5000", "samples: 10000", "features: null", "optional: false", "metric: null"}  # By metrics=none.
    assert set(page.marked) == {*marked, "width: 4", "accelerator: cpu", "Marked"}
    assert "generator" in page.words
    assert "gantrain train " + " ".join([*TINY, "name=run", *typed]) in page.words
    assert "done" in page.words


def test_names_and_values_are_escaped_on_the_page() -> None:
    Path("a<b").mkdir()
    from PIL import Image

    Image.new("RGB", (20, 20)).save("a<b/x.png")
    tiny = [*TINY, "trainer.steps=1", "data.batch_size=1", "network.generator.norm=none"]
    assert main(["train", *tiny, "network.discriminator.norm=none", "data=single", "data.root='a<b'", "name=xy"]) == 0
    source = Path("checkpoints/xy/index.html").read_text()
    assert "a<b" not in source
    assert "a&lt;b" in source


@pytest.mark.parametrize("name", ["../out", "a/b", ".", "..", ".hidden", "''", "'a,b'", "'a b'"])
def test_a_run_never_leaves_its_folder(name: str, capsys) -> None:
    assert main(["train", *TINY, f"name={name}"]) == 2
    assert capsys.readouterr().err.startswith("gantrain: name=")
    assert list(Path().iterdir()) == []


def test_errors_in_held_out_images_are_reported_before_training(capsys) -> None:
    from PIL import Image

    for folder in ("train/cat", "train/dog", "test/bird"):
        (Path("images") / folder).mkdir(parents=True)
        Image.new("L", (16, 16)).save(Path("images") / folder / "a.png")
    assert main(["train", *TINY, "data=single", "data.root=images", "name=run"]) == 2
    assert "bird" in capsys.readouterr().err
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_in_a_worker_is_reported_in_one_line(workers: int, capsys) -> None:
    Path("images").mkdir()
    for number in range(4):
        Path(f"images/{number}.png").write_bytes(b"no image")
    tiny = [*TINY, "trainer.steps=1", f"data.num_workers={workers}"]
    assert main(["train", *tiny, "data=single", "data.root=images"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gantrain: can't read the image images/")
    assert_mentions(message, "data.on_error=skip", "gantrain data check")
    assert message.count("\n") == 1
