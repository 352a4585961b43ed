"""Paths and names are typed as for any other command; what Hydra's grammar adds for sweeps still works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, newest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gantrain.cli.main import main
from gantrain.cli.quoting import PATHS, quoted

NAMES = [
    "эмодзи",
    "a b",
    "a,b",
    "a=b",
    "a(1)",
    "it's",
    'a"b',
    "a\\b",
    "[x]",
    "{x}",
    "50%",
    "a#b;c&d!",
    "12",
    "1e5",
    "é",
    "a: b",
]


def values(word: str, *, sweeps: bool = True) -> Any:
    """What Hydra reads: a value, or a list for a sweep."""
    override = OverridesParser.create().parse_override(quoted(word, sweeps=sweeps))
    return (
        [str(getattr(each, "text", each)) for each in override.sweep_iterator()]
        if override.is_sweep_override()
        else override.value()
    )


@pytest.mark.parametrize("key", sorted(PATHS))
@pytest.mark.parametrize(
    "value", ["~/x", "~other/x", "./эмодзи", "a=b", "a(1)", "1e5", "007", "a{0..3}.tar", "x[0-9]/*.png"]
)
def test_a_path_is_read_as_it_was_typed(key: str, value: str) -> None:
    assert values(f"{key}={value}") == value
    assert values(f"+{key}={value}") == value


@settings(deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=",$"), min_size=1))
def test_any_text_is_read_as_it_was_typed_or_in_hydras_syntax(text: str) -> None:
    hydras = text[0] in "'\"[{" or "\\" in text or text == "null" or "(" in text
    assert values(f"data.root=x{text}") == f"x{text}" or hydras


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a,b", ["a", "b"]),
        ("~/a,~/b", ["~/a", "~/b"]),
        ("a,эмодзи", ["a", "эмодзи"]),
        ("1,2", ["1", "2"]),
        ("'a,b'", "a,b"),
        ("null", None),
        ("choice(a,b)", ["a", "b"]),
        ("${x}/y", "${x}/y"),
        ("~/${x}", "~/${x}"),
    ],
)
def test_sweeps_quotes_null_and_references_stay_hydras(typed: str, expected: Any) -> None:
    assert values(f"data.root={typed}") == expected


def test_a_comma_belongs_to_a_path_that_exists() -> None:
    Path("a,b").mkdir()
    assert values("data.root=a,b") == "a,b"
    assert values("data.root=a,c") == ["a", "c"]


def test_a_comma_belongs_to_the_path_of_a_single_command() -> None:
    assert values("data.root=a,c", sweeps=False) == "a,c"
    assert values("out=~/a,c", sweeps=False) == "~/a,c"


def test_other_keys_are_not_touched() -> None:
    for word in ("optimizer.lr=1e-4,2e-4", "model=dcgan", "seed=~1", "plugins=[a]", "x"):
        assert quoted(word, sweeps=True) == word


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with images under odd names."""
    for name in NAMES:
        folder = Path("home", name)
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("L", (16, 16), 50 * number).save(folder / f"{number}.png")
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    return Path("home")


@pytest.mark.parametrize("name", NAMES)
def test_images_below_any_folder_are_trained_on(name: str, home: Path) -> None:
    sizes = [*TINY, "data.crop_size=16", "data.channels=1", "trainer.steps=1", "name=x"]
    typed = f"~/{name}"
    assert main(["train", *sizes, "data=single", f"data.root={typed}", f"checkpoints_dir=~/runs {name[:1]}"]) == 0
    (found,) = home.glob("runs */x/step_1.pt")
    assert main(["test", f"run={found.parent}", "num=2", f"out={typed}_made"]) == 0
    assert (home / f"{name}_made/index.html").is_file()


def test_a_sweep_over_folders_runs_in_each(home: Path) -> None:
    typed = [
        "data=single",
        "data.root=~/эмодзи,~/é",
        "data.crop_size=16",
        "checkpoints_dir=~/runs",
        "hydra.sweep.dir=~/sweep",
    ]
    assert main(["train", "-m", *TINY, "data.channels=1", "trainer.steps=1", *typed]) == 0
    assert len(list(home.rglob("step_1.pt"))) == 2
    assert (home / "sweep/index.html").is_file()
    assert not Path("~").exists()


def test_names_may_be_numbers_or_of_any_script() -> None:
    for name in ("мой", "12", "1e5"):
        assert main(["train", *TINY, "trainer.steps=1", f"name={name}"]) == 0
        assert newest(name)["config"]["name"] == name


def test_a_home_of_nobody_is_refused_in_one_line(capsys) -> None:
    assert main(["train", *TINY, "data=single", "data.root=~nobody-of-that-name/x"]) == 2
    message = capsys.readouterr().err
    assert "~" in message
    assert message.count("\n") == 1
