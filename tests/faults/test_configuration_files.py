"""Malformed configuration files: each is refused in one to three lines, without a trace, and leaves no files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from hypothesis import strategies as st
from malformed_commands import DRY, check_all, check_examples, write_images_and_plugins

HEAD = "# @package _global_\n"
FILES = [
    *(
        b"",
        b"42",
        b"hello",
        b"null",
        b"- 1\n- 2\n",
        b"a: \0b\n",
        bytes(range(256)),
        "a: 1".encode("utf-16"),
        b"a: \xed\xa0\x80\n",
    ),
    *(
        b"model: [1, 2\n",
        b"\tmodel: 1\n",
        b"model: a: b\n",
        b"a: 'b\n",
        b"%YAML 9.9\n---\na: 1\n",
        b"a: 1\n---\nb: 2\n",
        b"a: *b\n",
    ),
    *(
        b"# @package\na: 1\n",
        b"# @package a b\na: 1\n",
        b"# @package _nope_\na: 1\n",
        b"# @package model.x.y\na: 1\n",
        b"\xff\xfe",
    ),
]
ENTRIES = [
    *(
        "a: &a [*a]",
        "model: &m\n  name: dcgan\n  x: *m",
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "{b: " * 500 + "1" + "}" * 500,
    ),
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
    "model:\n" + "".join(f"  k{number}: {number}\n" for number in range(20000)),
    "a: " + "x" * 1_100_000,
    *(
        "seed: !!python/object/apply:os.system [touch PWNED]",
        "seed: !!python/name:os.system",
        "seed: !foo bar",
        "seed: !!int x",
    ),
    *(
        "seed: !!binary '*'",
        "seed: !!timestamp x",
        "seed: !!set {a}",
        "seed: !!omap [a: 1]",
        "seed: 2020-01-01",
        "seed: 1\nseed: 2",
    ),
    *(
        "? [a, b]\n: 1",
        "1: 2",
        "true: 2",
        "null: 2",
        "<<: 1",
        "seed: ${nope}",
        "seed: ${",
        "seed: ${seed}",
        "seed: [1]",
        "a: ???",
    ),
    *(
        "defaults: 1",
        "defaults: [[1]]",
        "defaults: {a: 1}",
        "defaults: [null]",
        "defaults: [nope]",
        "defaults: [_self_, _self_]",
    ),
    *(
        "defaults: [{a: {b: 1}}]",
        "defaults: [{a: 1, b: 2}]",
        "defaults: [made]",
        "defaults: [{/model: made}]",
        "defaults: [a@]",
    ),
    *(
        "defaults: [dcgan, {override /optimiser: adam}]",
        "defaults: [{override /model: gan}]",
        'name: "../x\\n\\0\\e[31m\\n\\n"',
    ),
    *(
        "hydra: null",
        "hydra:\n  run: 1",
        "hydra:\n  callbacks:\n    x: {_target_: os.mkdir, name: PWNED}",
        "plugins: [raises]",
    ),
    *(
        'hydra: {callbacks: {x: {"\\x5ftarget_": os.mkdir, name: PWNED}}}',
        "plugins: raises",
        "model: 1",
        "data: []",
        "trainer: x",
    ),
]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and broken plug-ins."""
    write_images_and_plugins(monkeypatch)


def written(content: bytes) -> list[str]:
    Path("conf/model").mkdir(parents=True, exist_ok=True)
    Path("conf/model/made.yaml").write_bytes(content)
    return ["train", "--config-dir", "conf", "model=made", *DRY[1:]]


@pytest.mark.parametrize("part", range(2))
def test_files_that_are_not_configurations(part: int) -> None:
    entries = [f"{HEAD}{'' if 'defaults' in entry else 'defaults: [dcgan]'}\n{entry}\n".encode() for entry in ENTRIES]
    check_all((written(content) for content in [*FILES, *entries][part::2]), but=3)
    assert not Path("PWNED").exists()


def test_files_of_arbitrary_bytes() -> None:
    check_examples(st.binary(max_size=200).map(written), 12, most=0.0)


def test_a_valid_configuration_file_with_a_few_changed_bytes() -> None:
    good = (resources.files("gantrain.configs") / "model/dcgan.yaml").read_bytes()

    def damaged(changes: list[tuple[int, int, bytes]]) -> bytes:
        content = good
        for start, length, new in changes:
            start %= len(content) + 1
            content = content[:start] + new + content[start + length :]
        return content

    bytes_ = st.binary(max_size=3) | st.sampled_from(
        [b"[", b"{", b"'", b": ", b"- ", b"&a ", b"*a", b"\n", b"#", b"${", b"!!", b"? ", b"\t"]
    )
    changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 4), bytes_), min_size=1, max_size=4)
    check_examples(changes.map(damaged).map(written), 25, most=0.5)
