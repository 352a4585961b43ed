"""Each process of a sweep claims a GPU of its own."""

from __future__ import annotations

import os

import pytest

from gantrain.runtime.gpus import CLAIM, claim_gpu, visible_gpus


def claimed(gpus: list[str], number: int, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The value of ``CUDA_VISIBLE_DEVICES`` in another process that claims a GPU."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ.pop(CLAIM, None)
        claim_gpu(gpus, number)
        os.write(writing, os.environ.get("CUDA_VISIBLE_DEVICES", "all").encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return os.read(reading, 100).decode()


def test_each_process_gets_another_gpu_while_any_is_free(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for variable in ("CUDA_VISIBLE_DEVICES", CLAIM):
        monkeypatch.setenv(variable, "")  # It is restored after the test.
        monkeypatch.delenv(variable)
    gpus = ["GPU-1", "GPU-2"]
    assert claimed(["GPU-1"], 0, monkeypatch) == "all"
    claim_gpu(gpus, 7)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert claimed(gpus, 0, monkeypatch) == "GPU-2"
    assert claimed(gpus, 0, monkeypatch) == "GPU-2"  # That process has ended.
    assert claimed(["GPU-1", "GPU-1"], 1, monkeypatch) == "GPU-1"  # None is free, so it is shared.


def test_gpus_are_those_in_cuda_visible_devices(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
