"""Hundreds of malformed commands: each is refused in one to three lines, without a trace, and leaves no files.

``dry_run=true`` prevents training where a mutation is valid by chance.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st
from malformed_commands import (
    DRY,
    FLAGS,
    ODD_FLAGS,
    ODD_WORDS,
    WORDS,
    after,
    check_all,
    check_examples,
    given_values,
    keys_of,
    write_images_and_plugins,
)
from warm import Warm

from gantrain.cli.main import main


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and broken plug-ins."""
    write_images_and_plugins(monkeypatch)


def misspelt(word: str, place: int, letter: str) -> str:
    place %= len(word)
    return word[:place] + letter + word[place + 1 :]


# ---- gantrain train


def test_values_that_no_key_accepts() -> None:
    check_examples(after(DRY, given_values(keys_of("train")), 3), 40, most=0.3)


@pytest.mark.parametrize("part", range(3))
def test_words_that_are_not_overrides(part: int) -> None:
    words = [*WORDS.split(), *ODD_WORDS]
    check_all(([*DRY, word] for word in words[part::3]), but=1)


def test_random_words() -> None:
    misspelt_keys = st.builds(misspelt, st.sampled_from(keys_of("train")), st.integers(0, 40), st.sampled_from("QZü"))
    words = st.text(max_size=20) | misspelt_keys.map(lambda key: f"{key}=1")
    check_examples(after(DRY, words, 2), 25, most=0.1)


def test_flags_that_hydra_does_not_have() -> None:
    flags = [*map(str.split, FLAGS.strip().splitlines()), *ODD_FLAGS]
    check_all(([*DRY, *words] for words in flags), but=2)


# ---- the other commands
def test_values_that_gantrain_test_does_not_accept(trained) -> None:
    trained("dcgan").rename("checkpoints/one")
    assert main(["test", "run=checkpoints/one", "num=1", "out=made", "accelerator=cpu"]) == 0
    bad = st.sampled_from(
        ["=" + word for word in ("", ".", "..", "/", "/dev/null", "images", "raises.py", "'\x00'", "'a\nb'", "~x")]
    )
    places = st.builds(str.__add__, st.sampled_from(["run", "weights", "data"]), bad)
    words = given_values(set(keys_of("test")) - {"run"}) | places
    check_examples(after(["test", "run=checkpoints/one", "num=1", "accelerator=cpu"], words, 2), 25, most=0.3)


DATA = {  # needed arguments, options
    "lmdb": (2, ()),
    "export": (2, ("layout", "fraction", "seed")),
    "check": (0, ("data", "data.root", "data.channels", "data.load_size", "quick", "seed", "plugins")),
    "download": (1, ("root",)),
    "prepare pairs": (3, ()),
    "prepare split_pairs": (2, ()),
    "prepare edges": (2, ("sigma", "low", "high", "invert")),
    "prepare resize": (2, ("size",)),
    "prepare split": (2, ("train", "val", "test", "seed", "links")),
    "prepare": (1, ()),
    "nothing": (1, ()),
}


@st.composite
def data_commands(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(DATA)))
    needed, options = DATA[name]
    place = st.sampled_from(
        ["images", "raises.py", "", ".", "/dev/null", "\x00", "a\nb", "nowhere", "-x", "x" * 300, "ü"]
    )
    count = draw(st.sampled_from([needed, needed, needed, needed + 1, max(0, needed - 1)]))
    places = [draw(place) for _ in range(count)]
    given = [draw(given_values(options, signs="")) for _ in range(draw(st.integers(1, 2)))] if options else []
    return ["data", *name.split(), *places, *given]


def test_values_that_gantrain_data_does_not_accept() -> None:
    check_examples(data_commands(), 50, most=0.1)


def test_a_nul_in_a_path_is_reported() -> None:
    check_all(
        [
            ["test", "weights='\x00'", "data=single", "data.root=images"],
            ["data", "lmdb", "images", "\x00"],
            ["data", "export", "\x00", "made"],
            ["data", "prepare", "resize", "images", "\x00"],
        ],
        but=0,
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "seed=[1"],
        ["train", "plugins=[leaves]", "name=../x"],
        ["train", "--experimental-rerun", "raises.py"],
        ["test", "weights=raises.py", "data=single", "data.root=images"],
        ["data", "prepare", "resize", "images", "made", "size=[[[["],
    ],
)
def test_malformed_commands_in_new_processes(argv: list[str], warm: Warm) -> None:
    before = sorted(Path().rglob("*"))
    done = warm.run(["-B", "-m", "gantrain", *argv])
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("gantrain: ")
    assert done.stderr.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
