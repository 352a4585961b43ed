"""Errors of users, as one line on stderr and an exit status."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gantrain.errors import ConfigError
from gantrain.runtime import console
from gantrain.runtime.storage import explain


@dataclass
class Outcome:
    """The exit status of a command; ``report_errors`` sets it after an error."""

    status: int = 0


def fail(message: str | ConfigError) -> int:
    """Print an error as one line on stderr, once for all ranks, and return the exit status 2."""
    error = message if isinstance(message, ConfigError) else ConfigError(message)
    if "RANK" in os.environ:  # Under torchrun every rank may find the same mistake.
        from gantrain.runtime import distributed

        distributed.print_fatal_once(f"gantrain: {error}")
    else:
        console.err(*f"gantrain: {error}".split("\n"))
    return 2


@contextmanager
def report_errors() -> Iterator[Outcome]:
    """Print an error inside that the user can correct as one line, and set the exit status; raise any other."""
    outcome = Outcome()
    try:
        yield outcome
    except ConfigError as error:
        outcome.status = fail(error)
    except OSError as error:
        fail(explain(error, f"use {error.filename}" if error.filename else "complete the command"))
        outcome.status = 1
    except (MemoryError, RuntimeError) as error:
        if "home directory" in str(error):  # Of ``Path.expanduser``.
            outcome.status = fail("a path starts with ~, and there is no home folder for that name; give it in full")
            return
        texts = ("out of memory", "allocate memory", "Storage size calculation overflowed")  # NumPy's and torch's.
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in texts):
            raise
        fail("out of memory; lower data.batch_size, data.crop_size, data.load_size or network.width")
        outcome.status = 1
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        outcome.status = fail("a path contains a NUL character, which no file system accepts")
