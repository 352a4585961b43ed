"""Why a run has ended before its time, in a line that says what to change."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from gantrain.registry import ConfigError

# parts of what torch says
CPU_ALLOCATION = "can't allocate memory"
SHARED_MEMORY = "shared memory"


@contextmanager
def explained(config: Mapping[str, Any], device: torch.device) -> Iterator[None]:
    """What the machine could not do inside, told as a ``ConfigError``: memory that ran out, and workers that died."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigError(out_of_memory(config, device)) from error
    except RuntimeError as error:
        if CPU_ALLOCATION in str(error):
            raise ConfigError(out_of_memory(config, device)) from error
        if "DataLoader worker (pid" not in str(error) and SHARED_MEMORY not in str(error):
            raise
        raise ConfigError(lost_worker(str(error))) from error


def out_of_memory(config: Mapping[str, Any], device: torch.device) -> str:
    """How much was in use, for what, and what needs less."""
    if device.type == "cuda":
        peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        used = f"peak {peak / 2**30:.1f} of {whole / 2**30:.1f} GiB on {device}"
    else:
        used = f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    data, network = config["data"], config["network"]
    sides = data.get("crop_size") or data.get("load_size")
    size = f", images of {sides} pixels" if sides else ""
    smaller = [f"data.batch_size ({data['batch_size']})", f"network.width ({network['width']})"]
    if sides:
        smaller.insert(1, "data.crop_size")
    half = "" if config["trainer"]["precision"] in ("bfloat16", "float16") else ", or give trainer.precision=bfloat16"
    return f"out of memory ({used}; batches of {data['batch_size']}{size}): lower {' or '.join(smaller)}{half}"


def lost_worker(message: str) -> str:
    """What has become of a process that read pictures, from what torch says of it."""
    signal = re.search(r"is killed by signal: (\w[\w ]*)", message)
    if SHARED_MEMORY in message:
        return (
            "too little shared memory (df /dev/shm) to hand batches from process to process: give data.num_workers=0 "
            "or a smaller data.batch_size, or a container more (docker --shm-size)"
        )
    if signal is None or signal[1] == "Killed":
        return (
            "a data worker was killed, most likely because memory ran out: lower data.num_workers, or data.batch_size"
        )
    return f"a data worker died ({signal[1]}): a decoder may have failed; gantrain data check may name the picture"


def write_record(path: Path, facts: Mapping[str, Any]) -> None:
    """Keep what is known of a divergence, as JSON, if it can be written."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def diverged(step: int, facts: Mapping[str, Any], record: Path) -> str:
    """What was not finite, and where to read more."""
    losses = [f"{name} is {value}" for name, value in facts["losses"].items() if not _is_finite(value)]
    norms = [
        f"the gradient of the {norm['side']} is {norm['norm']}"
        for norm in facts["gradient_norms"]
        if norm["step"] == step and not _is_finite(norm["norm"])
    ]
    return f"diverged at step {step}: {', '.join(dict.fromkeys(losses + norms))}; see {record}."


def advice(config: Mapping[str, Any]) -> str:
    """What to change in a run that has diverged."""
    model, optimizer = config["model"], config["optimizer"]
    tries = []
    if config["trainer"]["precision"] in ("float16", "bfloat16"):
        tries.append("trainer.precision=float32")
    tries.append(f"a lower optimizer.lr (it is {optimizer.get('lr')})")
    if not any(model.get(key) for key in ("gradient_penalty", "r1", "clip")):
        steady = [key for key in ("r1", "gradient_penalty") if key in model]
        tries += [f"model.{steady[0]}=10 (a steadier discriminator)"] if steady else []
    tries.append("trainer.on_divergence=rollback")
    return f"Try {', or '.join(tries)}"


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
