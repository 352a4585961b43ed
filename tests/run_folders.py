"""Run folders and records of sweeps, written without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from PIL import Image

from gantrain.report.pages.page import write_data

CONFIG = {
    "name": "one",
    "seed": 0,
    "objective": {"metric": None, "mode": "min"},
    "logger": {},
    "model": {"name": "dcgan", "loss": "logistic"},
    "optimizer": {"name": "adam", "lr": 2e-4},
}


def make_run(
    name: str,
    *,
    state: str = "done",
    losses: list[dict[str, float]] | None = None,
    measured: Sequence[dict[str, float]] = (),
    **changes: Any,
) -> Path:
    """The small files of a run folder, without training."""
    folder = Path("checkpoints") / name
    (folder / "images").mkdir(parents=True)
    config = OmegaConf.merge(CONFIG, {"name": name}, OmegaConf.from_dotlist([f"{k}={v}" for k, v in changes.items()]))
    OmegaConf.save(config, folder / "config.yaml")
    losses = [{"g": 2.0}, {"g": 1.0}, {"g": 1.5}] if losses is None else losses
    clock = [{"step": 10 * n + 10, "epoch": n + 1.0, "kimg": n + 1.0} for n in range(len(losses))]
    lines = [{**now, **values, "lr_generator": 1e-4} for now, values in zip(clock, losses, strict=True)]
    (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = [{**now, **values} for now, values in zip(clock, measured, strict=True)] if measured else []
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    speeds = [{**now, "images_per_second": 100.0, "time": 9.0} for now in clock[1:]]
    (folder / "speed.jsonl").write_text("".join(json.dumps(line) + "\n" for line in speeds))
    images = []
    for now in clock:
        Image.new("L", (20, 20), now["step"]).save(folder / "images" / f"step_{now['step']}_samples.png")
        url = f"images/step_{now['step']}_samples.png"
        images.append({"step": now["step"], "what": "samples", "url": url, "width": 8, "height": 8, "columns": 2})
    (folder / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in images))
    write_data(folder, "status", {"state": state, "reason": None, "time": 100.0})
    (folder / "index.html").write_text("a page")
    return folder


def job(run: str, *overrides: str, **changes: Any) -> dict[str, Any]:
    """Write the record of a run in a sweep."""
    record = {"run": run, "folder": f"../../{run}", "overrides": list(overrides), "status": "done", "message": ""}
    record |= {"time": 101.0, "command": "gantrain train -m ...", "session": "s", "exit": 0, **changes}
    folder = Path("checkpoints/sweeps/mine/jobs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run}.json").write_text(json.dumps(record))
    return record
