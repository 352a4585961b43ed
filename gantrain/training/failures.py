"""Why a run has ended before its time, in a line that says what to change."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from gantrain.errors import ConfigError

if sys.platform != "win32":
    import resource

# parts of what torch says
CPU_ALLOCATION = "can't allocate memory"
SHARED_MEMORY = "shared memory"


@contextmanager
def explained(
    config: Mapping[str, Any], device: torch.device, exit_codes: Callable[[], Iterable[int]] = tuple
) -> Iterator[None]:
    """What the machine could not do inside, told as a ``ConfigError``: memory that ran out, and workers that died.

    Args:
        config: The whole configuration.
        device: That trains.
        exit_codes: Tells how workers have ended.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigError(out_of_memory(config, device)) from error
    except RuntimeError as error:
        if CPU_ALLOCATION in str(error):
            raise ConfigError(out_of_memory(config, device)) from error
        if SHARED_MEMORY in str(error) and "DataLoader worker (pid" not in str(error):
            raise ConfigError(NO_SHARED_MEMORY) from error
        if "DataLoader worker (pid" not in str(error):
            raise
        raise ConfigError(lost_worker(exit_codes())) from error
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        # a batch lies in memory that the worker hands over when it is asked, and it may die before
        codes = list(exit_codes())
        if not any(_is_lost(code) for code in codes):
            raise
        raise ConfigError(lost_worker(codes)) from error


def out_of_memory(config: Mapping[str, Any], device: torch.device) -> str:
    """How much was in use, for what, and what needs less."""
    data, network = config["data"], config["network"]
    side = next((key for key in ("crop_size", "load_size") if data.get(key)), None)
    size = f", images of {data[side]} pixels" if side else ""
    lower = [f"data.batch_size ({data['batch_size']})", f"network.width ({network['width']})"]
    if side:
        lower.insert(1, f"data.{side} ({data[side]})")
    half = "" if config["trainer"]["precision"] in ("bfloat16", "float16") else ", or give trainer.precision=bfloat16"
    return f"out of memory ({_used(device)}batches of {data['batch_size']}{size}): lower {' or '.join(lower)}{half}"


def _used(device: torch.device) -> str:
    if device.type == "cuda":
        peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        return f"peak {peak / 2**30:.1f} of {whole / 2**30:.1f} GiB on {device}; "
    if sys.platform == "win32":
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"peak {peak / 2**30:.1f} GiB; "


NO_SHARED_MEMORY = (
    "too little shared memory (df /dev/shm) to hand batches from process to process: give data.num_workers=0 or a "
    "smaller data.batch_size, or a container more (docker --shm-size)"
)


def _is_lost(exit_code: int) -> bool:
    """Whether a process has ended otherwise than those that are told to."""
    return exit_code not in (0, -signal.SIGTERM)


def lost_worker(exit_codes: Iterable[int]) -> str:
    """What has become of the processes that read images."""
    code = next(filter(_is_lost, exit_codes), 0)
    if code >= 0:
        return "a data worker has ended without a word, made to by something that it calls: data.num_workers=0 may tell"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "a data worker was killed, most likely because memory ran out: lower data.num_workers or data.batch_size"
    if name == "SIGBUS":
        return NO_SHARED_MEMORY
    return f"a data worker died ({name}): a decoder may have failed; gantrain data check may name the image"


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
    weights = [f"the weights of the {side} are not finite" for side in facts["nonfinite_sides"]]
    # of other ranks, or of a part that the model does not log
    hidden = [
        f"the loss of the {norm['side']} is not finite"
        for norm in facts["gradient_norms"]
        if norm["step"] == step and not norm["finite_loss"]
    ]
    told = dict.fromkeys(losses + norms + weights or hidden)
    return f"diverged at step {step}: {', '.join(told)}; see {record}."


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
    if config["trainer"]["on_divergence"] == "stop":
        tries.append("trainer.on_divergence=rollback")
    return f"Try {', or '.join(tries)}"


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
