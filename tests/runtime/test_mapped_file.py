"""Files of arrays: read as written, by any process, and refused unless they are complete and of the right kind."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gantrain.errors import ConfigError
from gantrain.runtime import mapped_file
from gantrain.runtime.atomic import remove_if_unused
from gantrain.runtime.mapped_file import MappedFile, write_mapped_file

PATH = Path("arrays")


def write(count: int = 3) -> None:
    with write_mapped_file(PATH, "tests") as file:
        for number in range(count):
            file.append("bytes", np.arange(number, dtype=np.uint8))
            file.append("numbers", np.full((2, 2), number, dtype=np.int64))
            file.append("halves", np.array([number / 2], dtype=np.float32))
        file.description = {"names": ["a", "\u00e9"], "count": count}


def test_arrays_and_description_are_read_as_written() -> None:
    write()
    file = MappedFile(PATH, "tests")
    assert file.description == {"names": ["a", "\u00e9"], "count": 3}
    assert [*file.arrays] == ["bytes", "numbers", "halves"]
    assert file.arrays["bytes"].tolist() == [0, 0, 1]
    assert file.arrays["numbers"].reshape(-1, 2, 2)[2].tolist() == [[2, 2], [2, 2]]
    assert file.arrays["halves"].tolist() == [0, 0.5, 1]
    assert [array.dtype.name for array in file.arrays.values()] == ["uint8", "int64", "float32"]
    assert [*Path().iterdir()] == [PATH]


def test_a_file_may_have_no_arrays() -> None:
    write(0)
    assert MappedFile(PATH, "tests").arrays == {}


def test_arrays_are_read_only_and_outlive_the_file() -> None:
    write()
    numbers = MappedFile(PATH, "tests").arrays["numbers"]
    PATH.unlink()
    with pytest.raises(ValueError, match="read-only"):
        numbers[0] = 1
    assert pickle.loads(pickle.dumps(numbers)).tolist() == numbers.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_an_open_file_is_in_use() -> None:
    write()
    file = MappedFile(PATH, "tests")
    assert not remove_if_unused(PATH)
    del file
    assert remove_if_unused(PATH)


def test_every_change_is_found_that_of_the_first_array_when_read() -> None:
    write(40)
    content = PATH.read_bytes()
    first = mapped_file.HEADER.size
    size = MappedFile(PATH, "tests").arrays["bytes"].nbytes
    for offset in [*range(first), *range(first + size + 8, len(content))]:
        corrupt = bytearray(content)
        corrupt[offset] ^= 1
        PATH.write_bytes(corrupt)
        with pytest.raises(ValueError, match=rf"checksum mismatch in {PATH}|{PATH} is truncated"):
            MappedFile(PATH, "tests")
    for offset in range(first, first + size):
        corrupt = bytearray(content)
        corrupt[offset] ^= 1
        PATH.write_bytes(corrupt)
        with pytest.raises(ConfigError, match=f"{PATH} is corrupt: delete it"):
            MappedFile(PATH, "tests").verify(0, size)


def test_the_blocks_that_are_read_are_verified(monkeypatch) -> None:
    monkeypatch.setattr(mapped_file, "BLOCK", 10)
    with write_mapped_file(PATH, "tests") as file:
        for count in (3, 18, 12, 1):
            file.append("numbers", np.arange(count, dtype=np.int16))
    MappedFile(PATH, "tests").verify(0, 68)
    content = bytearray(PATH.read_bytes())
    content[mapped_file.HEADER.size + 25] ^= 1
    PATH.write_bytes(content)
    file = MappedFile(PATH, "tests")
    for start, stop in ((0, 20), (30, 68), (30, 30)):
        file.verify(start, stop)
    for start, stop in ((0, 21), (20, 21), (29, 31), (25, 26)):
        with pytest.raises(ConfigError, match="corrupt"):
            file.verify(start, stop)


def test_truncated_and_longer_files_are_refused() -> None:
    write()
    content = PATH.read_bytes()
    for changed in (*(content[:size] for size in range(len(content))), content + b"\0"):
        PATH.write_bytes(changed)
        with pytest.raises(ValueError, match=rf"{PATH} is truncated|empty file"):
            MappedFile(PATH, "tests")


def test_a_file_of_another_kind_is_refused() -> None:
    write()
    with pytest.raises(ValueError, match="arrays is a file of tests, not of others"):
        MappedFile(PATH, "others")


def test_a_failed_block_leaves_the_previous_file() -> None:
    write()
    with suppress(KeyboardInterrupt), write_mapped_file(PATH, "tests") as file:
        file.append("bytes", np.zeros(9))
        raise KeyboardInterrupt
    assert MappedFile(PATH, "tests").description["count"] == 3
    assert [*Path().iterdir()] == [PATH]
