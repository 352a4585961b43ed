"""What has gone wrong, in a line on stderr and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from gantrain.errors import ConfigError


def fail(message: str | ConfigError) -> int:
    """Print what is wrong as one line on stderr, of all ranks once; the exit status."""
    error = message if isinstance(message, ConfigError) else ConfigError(message)
    if "RANK" in os.environ:  # under torchrun every rank may find the same mistake
        from gantrain.runtime import distributed

        distributed.print_fatal_once(f"gantrain: {error}")
    else:
        print(f"gantrain: {error}", file=sys.stderr)
    return 2


def report_errors(run: Callable[[], int]) -> int:
    """The exit status of ``run``; what a user can mend becomes a line."""
    try:
        return run()
    except ConfigError as error:
        return fail(error)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        fail("out of memory; a smaller data.batch_size, data.crop_size, data.load_size or network.width takes less")
        return 1
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        return fail("a path has a NUL character in it, which no file system takes")


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether Python, NumPy or torch asked for more memory than there is."""
    said = ("out of memory", "allocate memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
