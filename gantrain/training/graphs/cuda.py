"""Capture and replay of CUDA graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

SYNCHRONISES = "called a synchronizing CUDA operation"  # In the warnings of torch's synchronisation debug mode.
MODE = "Synchronization debug mode is"  # In the warning that there is such a mode.


class CudaGraphs:
    """The graphs of one process on one GPU, which share their memory: none needs what another has left there.

    Args:
        device: The GPU.
        generators: Those of random numbers that captured functions use, besides the default one. A replay draws what
            the function itself would draw, from the present seeds.

    Attributes:
        rate_dtype: The type of a learning rate on the device: fused optimizers read nothing else there.
    """

    rate_dtype = torch.float32

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]) -> None:
        self._device, self._generators = device, list(generators)
        # Capture needs a stream of its own, and what comes before must not leave anything to wait for on another one.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def warm_up(self) -> Iterator[list[str]]:
        """Inside, work prepares for a capture; the list then has the places where the host has waited for the GPU."""
        waits: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with torch.cuda.stream(self._stream):
                    yield waits
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        for warning in caught:
            is_own = MODE in str(warning.message)
            if SYNCHRONISES in str(warning.message):
                waits.append(f"{Path(warning.filename).name}:{warning.lineno}")
                is_own = not before
            if not is_own:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """What replays the work of the function on the GPU, which is not done yet.

        Raises:
            RuntimeError: It can't be captured. Random numbers are to be seeded again.
        """
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            # Other threads move batches to the GPU meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                function()
        except BaseException:
            torch.cuda.set_stream(stream)
            for generator in (*self._generators, torch.cuda.default_generators[self._device.index or 0]):
                # Their states would wait for the end of the capture forever.
                generator.graphsafe_set_state(torch.Generator(self._device).graphsafe_get_state())
            raise
        return graph.replay
