"""``gantrain reproduce``: from an archive on a server to a row beside the paper's values."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from archives import files, image, tarred
from conftest import assert_mentions, newest, stop_after
from yaml_files import files_of

from gantrain import __version__
from gantrain.cli.main import main
from gantrain.data.sets.catalog import NAMES
from gantrain.papers.record import Row, add_to_record, read_record
from gantrain.papers.reproduce import changes_result, fetch, reproduce

PAIRS = {f"facades/{phase}/{number}.jpg" for phase in ("train", "test") for number in range(3)}
TINY = [
    *(
        "network.width=2",
        "metrics.is.splits=1",
        "data.load_size=36",
        "data.crop_size=32",
        "data.num_workers=0",
        "trainer.accelerator=cpu",
    ),
    *("trainer.steps=4", "trainer.log_every=1", "trainer.image_every=2", "name=run"),
    *("metrics.features=digits", "metrics.channels=[0]", "metrics.every=2"),
    "expected=[{metric: held_out_l1, value: 0.25, protocol: made up, source: a/b},"
    "{metric: fid, value: 9, protocol: made up, source: 'arXiv:1703.10593'}]",
]
RECORD = Path("checkpoints/reproductions.csv")


def logged(table: str, metric: str) -> dict[int, float]:
    lines = map(json.loads, Path(f"checkpoints/run/{table}.jsonl").read_text().splitlines())
    return {line["step"]: line[metric] for line in lines if metric in line}


def test_an_experiment_is_reproduced_from_its_archive_to_its_row(serve, monkeypatch, capsys) -> None:
    serve("facades", tarred(PAIRS))
    command = ["reproduce", "pix2pix_facades", *TINY]
    with monkeypatch.context() as context:
        stop_after(2, context)
        assert main([*command, "yes=true"]) == 130
    assert newest("run")["step"] == 2
    assert files(Path("datasets")) == PAIRS
    assert not RECORD.exists()
    capsys.readouterr()

    assert main(command) == 0  # Nothing is downloaded, so nothing is asked.
    assert newest("run")["step"] == 4
    l1, fid = read_record(RECORD)
    assert (l1.experiment, l1.metric, l1.paper, l1.source) == ("pix2pix_facades", "held_out_l1", "0.25", "a/b")
    distances = logged("metrics", "fid")
    assert distances.keys() == {2, 4}
    best = min(distances, key=distances.__getitem__)
    assert float(fid.measured) == pytest.approx(distances[best], rel=1e-4)
    assert (fid.metric, fid.paper, fid.step) == ("fid", "9", str(best))
    assert float(l1.measured) == pytest.approx(logged("losses", "held_out_l1")[best], rel=1e-4)
    assert (l1.measured_by, l1.step, l1.seed, l1.run) == ("", str(best), "0", "run")
    assert_mentions(fid.measured_by, "digits ", "3 fake vs 3 test")
    assert l1.hardware.startswith("cpu (")
    assert l1.version.startswith(__version__)
    assert 0 < float(l1.hours) < 1
    assert_mentions(l1.changes, "network.width=2", "metrics.features=digits")
    assert "name=run" not in l1.changes
    out = capsys.readouterr().out
    assert_mentions(
        out, f"held_out_l1: here {l1.measured} (at step {best}), expected 0.25", f"fid: here {fid.measured} ("
    )
    page = Path("checkpoints/reproductions.html").read_text()
    assert_mentions(page, l1.measured, "arXiv:1703.10593", "run/index.html")
    assert "<h2>Paper</h2>" in Path("checkpoints/run/index.html").read_text()
    assert 'href="reproductions.html"' in Path("checkpoints/index.html").read_text()

    assert main(command) == 0  # The run is finished; its rows are replaced.
    assert read_record(RECORD) == [l1, fid]


def test_the_values_of_the_best_step_are_recorded(capsys) -> None:
    for name in PAIRS:
        Path("datasets", name).parent.mkdir(parents=True, exist_ok=True)
        Path("datasets", name).write_bytes(image())
    command = ["reproduce", "pix2pix_facades", *TINY[:-1], "trainer.steps=1"]
    assert main(command) == 0
    values = ((1, 140.0, 1.2), (2, 130.5, 1.1), (3, 150.0, 1.4))
    lines = [{"step": step, "fid": fid, "is": other, "protocol": f"of {step}"} for step, fid, other in values]
    Path("checkpoints/run/metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert main(command) == 0
    fid, inception = read_record(RECORD)
    assert (fid.metric, fid.paper, fid.measured, fid.step) == ("fid", "124.98", "130.5", "2")
    assert (inception.metric, inception.paper, inception.measured, inception.step) == ("is", "1.62", "1.1", "2")
    assert fid.measured_by == inception.measured_by == "of 2"
    assert "fid: here 130.5 (at step 2, of 2), expected 124.98" in capsys.readouterr().out
    assert main([*command, "objective.metric=null"]) == 0
    assert [(row.measured, row.step) for row in read_record(RECORD)] == [("150", "3"), ("1.4", "3")]
    Path("checkpoints/run/metrics.jsonl").unlink()
    assert main(command) == 0
    assert [(row.measured, row.step) for row in read_record(RECORD)] == [("", "1"), ("", "1")]
    assert "fid: here not measured, expected 124.98" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "reason", "recorded"),
    [
        ("done", None, True),
        ("stopped", "no better fid for 3 measurements", True),
        ("stopped", "trainer.max_minutes", False),
        ("running", None, False),
    ],
)
def test_only_a_run_that_has_ended_is_recorded(state: str, reason: str | None, recorded: bool, capsys) -> None:
    Path("runs/run/index_files/data").mkdir(parents=True)
    status = json.dumps({"state": state, "reason": reason, "step": 3})
    Path("runs/run/index_files/data/status.js").write_text(f'gantrain.data("status", {status});\n')
    config = {"dry_run": False, "data": {"mode": "digits"}, "checkpoints_dir": "runs", "name": "run"}
    config |= {"expected": [], "objective": {"metric": None}, "trainer": {"devices": 2}, "seed": 7}
    assert reproduce("gan_mnist", config, [], lambda: 0, ask=pytest.fail) == 0
    rows = [(row.experiment, row.step, row.seed) for row in read_record(Path("runs/reproductions.csv"))]
    assert rows == [("gan_mnist", "3", "7")] * recorded
    assert ("not finished" in capsys.readouterr().err) != recorded


def test_the_states_of_all_experiments_are_listed(capsys) -> None:
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("  not run")] == files_of("experiment")
    assert [line for line in lines if line.startswith("    fid 124.98 (open-mmlab/mmagic: 106 generated")]

    empty = dict.fromkeys(Row.__dataclass_fields__, "")
    row = Row(**empty | {"experiment": "pix2pix_facades", "metric": "fid", "measured": "130.5", "step": "2"})
    Path("runs").mkdir()
    add_to_record(Path("runs/reproductions.csv"), [row])
    for name, state in (("gan_mnist", "stopped"), ("sgan_mnist", "done")):
        Path("runs", name, "index_files/data").mkdir(parents=True)
        status = json.dumps({"state": state, "step": 12345})
        Path("runs", name, "index_files/data/status.js").write_text(f'gantrain.data("status", {status});\n')
    assert main(["reproduce", "checkpoints_dir=runs"]) == 0
    states = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[0] != " ")
    assert states["pix2pix_facades"] == "done: fid 130.5 at step 2"
    assert states["gan_mnist"] == "stopped at step 12,345"
    assert states["sgan_mnist"] == "trained to step 12,345, not recorded"
    assert states["infogan_mnist"] == "not run"


@pytest.mark.parametrize("answer", ["n", "", None])
def test_nothing_is_downloaded_or_trained_without_consent(answer: str | None, monkeypatch, capsys) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        if answer is None:
            raise EOFError
        return answer

    assert not fetch({"mode": "aligned", "root": "datasets/facades"}, ask)
    assert_mentions(asked[0], "datasets/facades", NAMES["facades"])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["reproduce", "pix2pix_facades", *TINY]) == 1
    assert "yes=true" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_only_missing_archives_of_the_catalog_are_downloaded() -> None:
    Path("datasets/facades").mkdir(parents=True)
    Path("datasets/lsun/tower_train_lmdb").mkdir(parents=True)
    for data in (
        {"mode": "aligned", "root": "datasets/facades"},
        {"mode": "lsun", "root": "datasets/lsun", "category": "tower"},
        {"mode": "torchvision", "root": "datasets"},
        {"mode": "single", "root": "own/images"},
        {"mode": "digits"},
    ):
        assert fetch(data, pytest.fail)
    asked: list[str] = []
    assert not fetch({"mode": "lsun", "root": "other/lsun", "category": "tower"}, lambda text: asked.append(text) or "")
    assert_mentions(asked[0], "other/lsun/tower_train_lmdb", NAMES["lsun_tower"])


def test_data_that_must_be_requested_and_wrong_words_are_refused(capsys) -> None:
    for words, parts in (
        (["pix2pix_cityscapes"], ("cityscapes-dataset.com", "datasets/cityscapes/train")),
        (["pix2pix_facade"], ("pix2pix_facade:", "'pix2pix_facades'")),
        (["pix2pix_facades", "gan_mnist"], ("pix2pix_facades gan_mnist", "one experiment")),
        (["pix2pix_facades", "-m", "seed=1,2"], ("-m", "KEY=VALUE")),
        (["gan_mnist", "trainer.stepz=1"], ("trainer.stepz",)),
    ):
        assert main(["reproduce", *words]) == 2
        err = capsys.readouterr().err
        assert_mentions(err, *parts)
        assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("override", "does"),
    [("name=x", False), ("trainer.log_every=1", False), ("logger=csv", False), ("objective.patience=3", False)]
    + [("trainer.steps=1", True), ("metrics.samples=10", True), ("model.loss=hinge", True), ("data.root=x", False)],
)
def test_only_overrides_that_change_the_result_are_recorded(override: str, does: bool) -> None:
    assert changes_result(override) == does
