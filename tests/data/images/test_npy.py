"""Arrays in NumPy's file format are read as NumPy reads them, in threads too."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gantrain.data.images.opening import open_npy

VALUES = np.arange(24).reshape(4, 6)


def saved(values: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    file = BytesIO()
    np.lib.format.write_array(file, values, version=version)
    return file.getvalue()


def respelt(header: bytes) -> bytes:
    content = saved(VALUES.astype("<i2"))
    length = int.from_bytes(content[8:10], "little")
    return content[:10] + header.ljust(length) + content[10 + length :]


@pytest.fixture(params=["file", "bytes"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def opened(content: bytes) -> Any:
        if request.param == "bytes":
            return open_npy(content)
        (tmp_path / "1.npy").write_bytes(content)
        return open_npy(tmp_path / "1.npy")

    return opened


@pytest.mark.parametrize("dtype", ["u1", "bool", "<u2", ">u2", "<f2", ">f4", "<f8", "<c8", "<U2"])
@pytest.mark.parametrize("shape", [(4, 6), (24,), (2, 3, 4), (1, 2, 3, 4)])
def test_values_are_those_of_numpy(shape: Any, dtype: str, opened: Any) -> None:
    for order, version in product("CF", [(1, 0), (2, 0), (3, 0)]):
        values = np.asarray(VALUES.reshape(shape).astype(dtype), order=order)
        found = opened(saved(values, version))
        assert (found.dtype, found.flags.f_contiguous) == (values.dtype, values.flags.f_contiguous)
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<i2', 'fortran_order': False, 'shape': (4,6)}",
        b"{'shape': (4, 6), 'fortran_order': False, 'descr': '<i2'}",
        b'{"descr": "<i2", "fortran_order": False, "shape": (4, 6), }',
        b"{'descr':'<i2','fortran_order':False,'shape':(4,6)}",
    ],
)
def test_headers_of_other_programs_are_read(header: bytes, opened: Any) -> None:
    np.testing.assert_array_equal(opened(respelt(header)), VALUES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        saved(VALUES)[:7],
        saved(VALUES)[:60],
        saved(VALUES)[:-1],
        saved(np.array([{}])),
        saved(VALUES).replace(b"NUMPY\x01", b"NUMPY\x09"),
        saved(VALUES).replace(b"(4, 6)", b"(9, 9)"),
        saved(VALUES).replace(b"{'descr'", b"{'wrong'"),
    ],
)
def test_corrupt_files_are_errors(content: bytes, opened: Any) -> None:
    with pytest.raises((ValueError, EOFError, TypeError)):
        opened(content)


@contextmanager
def another_thread_parses() -> Iterator[None]:
    """Whenever garbage is collected, which happens while objects are created, another thread parses Python code."""

    def parse(*_: object) -> None:
        pool.submit(ast.parse, "0").result()

    before = gc.get_threshold()
    with ThreadPoolExecutor(1) as pool:
        gc.callbacks.append(parse)
        gc.set_threshold(1)
        try:
            yield
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(parse)


def test_other_threads_may_parse_meanwhile(opened: Any) -> None:
    """With Python 3.11, ``np.load`` ends in a SystemError here."""
    with another_thread_parses():
        found = [opened(saved(VALUES)) for _ in range(20)]
    assert all(np.array_equal(values, VALUES) for values in found)
