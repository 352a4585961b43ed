#!/usr/bin/env python3
"""Fingerprints of short training runs, to prove that a change of the code leaves its numbers alone.

Every model is trained for a few steps on its demonstration data on the CPU, in one process and in two, by whichever
gantrain this Python finds. Run it before and after a change, and compare the two files:

    python scripts/training_fingerprint.py before.json
    python scripts/training_fingerprint.py after.json && diff before.json after.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

MODELS = [path.stem for path in sorted((Path(__file__).parents[1] / "configs" / "model").glob("*.yaml"))]


def main() -> int:
    """Train, and write the fingerprints as JSON, a line per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--models", nargs="+", default=MODELS, help="by default all of them")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    images = Path(tempfile.mkdtemp(prefix="gantrain-fingerprint-images-"))
    write_images(images)
    found: dict[str, str] = {}
    for model in arguments.models:
        for processes in arguments.processes:
            found[f"{model}, {processes} process(es)"] = fingerprint(model, arguments.steps, processes, images)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def fingerprint(model: str, steps: int, processes: int, images: Path) -> str:
    """BLAKE2b of a run's weights, optimizers and averages, and of its ``losses.jsonl``."""
    command = [sys.executable, "-m", "gantrain", "train", f"model={model}", "name=run", "trainer.accelerator=cpu"]
    command += [f"trainer.devices={processes}", f"trainer.steps={steps}", f"trainer.save_every={steps}"]
    command += ["trainer.log_every=1", f"trainer.image_every={max(1, steps // 2)}", "data.batch_size=4"]
    if model == "colorization":  # it has no demonstration data
        command += ["data=single", f"data.root={images}", "data.load_size=32", "data.crop_size=32"]
    with tempfile.TemporaryDirectory(prefix="gantrain-fingerprint-") as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} has failed:\n{done.stderr}")
        run = Path(folder, "checkpoints", "run")
        state = torch.load(run / f"step_{steps}.pt", map_location="cpu", weights_only=True)
        digest = hashlib.blake2b(digest_size=16)
        add({key: state[key] for key in ("model", "updates")}, digest)
        digest.update((run / "losses.jsonl").read_bytes())
    print(f"{model}, {processes}: {digest.hexdigest()}", file=sys.stderr)
    return digest.hexdigest()


def add(value: Any, digest: Any) -> None:
    """Add a nested state to a digest: tensors by their bytes, names of keys left out, so that they may change."""
    if isinstance(value, torch.Tensor):
        digest.update(str((value.dtype, tuple(value.shape))).encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for item in value.values():
            add(item, digest)
    elif isinstance(value, (list, tuple)):
        for item in value:
            add(item, digest)
    else:
        digest.update(repr(value).encode())


def write_images(folder: Path) -> None:
    """Colour images for a model without demonstration data, always the same."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for number in range(40):
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic").clamp(0, 1)[0]
        pixels = (image * 255).byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(folder / f"{number:02}.png")


if __name__ == "__main__":
    sys.exit(main())
