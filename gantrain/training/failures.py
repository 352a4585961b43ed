"""Failures of a run, explained in one line with a remedy."""

from __future__ import annotations

import math
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gantrain.errors import ConfigError
from gantrain.runtime.memory import peak_memory

COMPILER = "_inductor"  # The part of torch that compiles networks, and in which compiled code runs.
NO_SHARED_MEMORY = (
    "out of shared memory (df /dev/shm), which passes batches between processes: give data.num_workers=0 or a smaller "
    "data.batch_size, or give a container more (docker --shm-size)"
)


class DivergedError(Exception):
    """A loss, a gradient or a weight was not finite.

    Attributes:
        step: The step (from 1) in which it happened, or for a weight in which it was found.
        facts: Plain values, the same on all ranks: ``step``, ``losses``, ``images`` (names), ``gradient_norms`` and
            ``nonfinite_sides`` (whose weights are not finite).
    """

    def __init__(self, step: int, facts: dict[str, Any]) -> None:
        super().__init__(f"step {step}")
        self.step = step
        self.facts = facts


UNREADABLE = ("can't read the image ", "can't make item ")  # How errors of single items begin.
SKIP_THEM = "; data.on_error=skip leaves out such images, and gantrain data check lists them all"


@contextmanager
def explained(
    config: Mapping[str, Any], device: torch.device, exit_codes: Callable[[], Iterable[int]] = tuple
) -> Iterator[None]:
    """Raise ``ConfigError`` with a remedy if memory ran out, a data worker died or an image can't be read.

    ``exit_codes`` returns those of the workers.
    """
    try:
        with _compiling(config):
            yield
    except ConfigError as error:  # Those of data workers are text.
        of_an_item = str(error).startswith(UNREADABLE) and not str(error).endswith(SKIP_THEM)  # Contexts may be nested.
        if not of_an_item or config["data"].get("on_error") != "raise":
            raise
        raise ConfigError(f"{error}{SKIP_THEM}") from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigError(out_of_memory(config, device)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise ConfigError(out_of_memory(config, device)) from error
        if "DataLoader worker (pid" in str(error):
            raise ConfigError(lost_worker(exit_codes())) from error
        if "shared memory" in str(error):
            raise ConfigError(NO_SHARED_MEMORY) from error
        raise
    except (ConnectionError, EOFError, FileNotFoundError) as error:
        # A batch is in memory that its worker shares on request; the worker may have died before that.
        codes = list(exit_codes())
        if not any(_has_failed(code) for code in codes):
            raise
        raise ConfigError(lost_worker(codes)) from error


@contextmanager
def _compiling(config: Mapping[str, Any]) -> Iterator[None]:
    """Explain what torch's compiler and the code that it has written raise, which has many types."""
    try:
        yield
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
        if not config["trainer"].get("compile") or not any(COMPILER in Path(file).parts for file in files):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"trainer.compile=true: torch can't compile a network, or not run what it has compiled ({reason}): give "
            "trainer.compile=false"
        ) from error


def out_of_memory(config: Mapping[str, Any], device: torch.device) -> str:
    """How much was in use, for what, and which keys to lower."""
    data = config["data"]
    size_key = next((key for key in ("crop_size", "load_size") if data.get(key)), None)
    size = f", images of {data[size_key]} pixels" if size_key else ""
    lower = [f"data.{key} ({data[key]})" for key in ("batch_size", size_key) if key]
    lower.append(f"network.width ({config['network']['width']})")
    trainer, at_once = config["trainer"], config["trainer"].get("micro_batch") or data["batch_size"]
    give = [] if trainer["precision"] in ("bfloat16", "float16", "auto") else ["trainer.precision=bfloat16"]
    give += [f"trainer.micro_batch={at_once // 2}"] if at_once % 2 == 0 else []
    others = f", or give {' or '.join(give)}" if give else ""
    return f"out of memory ({_peak(device)}batches of {data['batch_size']}{size}): lower {' or '.join(lower)}{others}"


def _peak(device: torch.device) -> str:
    peak = peak_memory(device)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"peak {peak / 2**30:.1f} of {total / 2**30:.1f} GiB on {device}; "
    return f"peak {peak / 2**30:.1f} GiB; " if peak else ""


def _has_failed(exit_code: int) -> bool:
    """Whether a worker neither exited regularly nor was terminated by multiprocessing."""
    return exit_code not in (0, -signal.SIGTERM)


def lost_worker(exit_codes: Iterable[int]) -> str:
    """Why a data worker died, and what to change."""
    code = next(filter(_has_failed, exit_codes), 0)
    if code >= 0:
        return f"a data worker exited with status {code}; rerun with data.num_workers=0 for the traceback"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "a data worker was killed, most likely because memory ran out: lower data.num_workers or data.batch_size"
    if name == "SIGBUS":
        return NO_SHARED_MEMORY
    return f"a data worker died of {name}, perhaps in an image decoder; gantrain data check may find the image"


def diverged(step: int, facts: Mapping[str, Any], record: Path) -> str:
    """What was not finite, and the path of the record."""
    norms = [norm for norm in facts["gradient_norms"] if norm["step"] == step]
    reasons = [f"{name} is {value}" for name, value in facts["losses"].items() if not math.isfinite(value)]
    reasons += [
        f"the gradient of the {norm['side']} is {norm['norm']}" for norm in norms if not math.isfinite(norm["norm"])
    ]
    reasons += [f"the weights of the {side} are not finite" for side in facts["nonfinite_sides"]]
    if not reasons:  # On another rank, or in a loss that the model does not log.
        reasons = [f"the loss of the {norm['side']} is not finite" for norm in norms if not norm["finite_loss"]]
    return f"diverged at step {step}: {', '.join(dict.fromkeys(reasons))}; see {record}."


def advice(config: Mapping[str, Any]) -> str:
    """What to change in a run that has diverged."""
    model, trainer = config["model"], config["trainer"]
    options = ["trainer.precision=float32"] if trainer["precision"] in ("float16", "bfloat16", "auto") else []
    options.append(f"a lower optimizer.lr (now {config['optimizer'].get('lr')})")
    if not any(model.get(key) for key in ("gradient_penalty", "r1", "r2", "clip")):
        penalty = next((key for key in ("r1", "gradient_penalty") if key in model), None)
        options += [f"model.{penalty}=10 (regularises the discriminator)"] if penalty else []
    if trainer["on_divergence"] == "stop":
        options.append("trainer.on_divergence=rollback")
    return f"Try {', or '.join(options)}"


def worst(values: Sequence[float]) -> float:
    """The first value that is not finite, or else the first."""
    return next((value for value in values if not math.isfinite(value)), values[0])
