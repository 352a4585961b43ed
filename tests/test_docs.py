"""The documentation site: every command on its pages composes, and its reference has every key and every command."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from test_readme import arguments
from test_readme import commands as of_readme

from gantrain.benchmark import BenchmarkSettings
from gantrain.cli.arguments import split
from gantrain.cli.compose import compose_once, compose_training
from gantrain.cli.data import COMMANDS as OF_DATA
from gantrain.cli.main import COMMANDS, main
from gantrain.config.keys import keys
from gantrain.config.schema import construct
from gantrain.data.sets.catalog import NAMES
from gantrain.evaluate import EvaluateSettings
from gantrain.export import ExportSettings
from gantrain.inference.settings import PredictSettings, TestSettings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = {"test": TestSettings, "predict": PredictSettings, "evaluate": EvaluateSettings, "export": ExportSettings}
HELP = ROOT / "gantrain/report/assets/help.html"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.name != "reproductions.md")


def commands(page: str, *, blocks_only: bool = False) -> list[list[str]]:
    """The complete commands of gantrain in the code blocks, tables and sentences of a page, as words."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ").replace("\\|", "|")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    rest = "" if blocks_only else rest
    lines += [" ".join(words.split()) for words in re.findall(r"(?<!`)`(gantrain [^`]+)`", rest)]
    found = [re.fullmatch(r"(?:srun |torchrun .*-m |pip install .* && )?gantrain (.+)", line.strip()) for line in lines]
    typed = dict.fromkeys(match[1] for match in found if match and "..." not in match[1] and "KEY=" not in match[1])
    return [shlex.split(line, comments=True) for line in typed]


def test_the_commands_are_found() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 100
    assert ["test", "run=checkpoints/flowers", "labels=[tulip]", "num=64"] in commands("tutorials/conditional.md")


def once() -> dict[str, list[list[str]]]:
    """The commands by the page where each is first, without those of the README, which have a test."""
    seen = {tuple(arguments(line)) for line in of_readme()}
    found = {page: [words for words in commands(page) if tuple(words) not in seen] for page in PAGES}
    first = {tuple(words): page for page in reversed(PAGES) for words in found[page]}
    return {page: [words for words in found[page] if first[tuple(words)] == page] for page in PAGES}


ONCE = once()


@pytest.mark.parametrize("page", [page for page in PAGES if ONCE[page]])
def test_every_command_of_a_page_is_understood(page: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr("gantrain.training.init_from.adopt_architecture", lambda config, _: config)
    for words in ONCE[page]:
        try:
            understand(words)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{page}: gantrain {shlex.join(words)}: {error!r}")


def understand(words: list[str]) -> None:
    """Compose a command, or run it if that needs and changes nothing."""
    name, *typed = words
    if name == "data" and typed[:1] == ["check"]:
        name, typed = "train", typed[1:]
    if name == "resume" or any(word.startswith("resume=checkpoints") for word in typed):
        assert all(word.partition("=")[0] in keys() for word in typed if "=" in word), words
    elif name == "train":
        if "-m" in typed:
            check_groups(typed)
            typed = [first_of(word) for word in typed if not word.startswith(("hydra.", "launcher=", "sweeper=", "-m"))]
        compose_training([], split([word for word in typed if word not in ("--cfg", "job", "--help")])[1])
    elif name == "benchmark":
        own = BenchmarkSettings.__annotations__.keys()
        compose_training([], [first_of(word) for word in typed if word.partition("=")[0] not in own])
    elif name in SETTINGS and typed:  # Others are only mentioned.
        config = compose_once(name, [], split(typed)[1]).config
        takes = inspect.signature(SETTINGS[name]).parameters
        assert config.keys() - takes.keys() <= {"trainer", "network_defaults"}  # Of the file of a data set.
        construct(SETTINGS[name], {key: config.get(key) for key in takes}, key="")
    elif name == "data":
        understand_data(typed)
    elif typed != ["KEY"] and (name in ("help", "list", "migrate") or name.startswith("-")):
        assert main(words) == 0
    elif name == "reproduce":
        assert all((ROOT / f"configs/experiment/{word}.yaml").is_file() or word in ("NAME", "seed=1") for word in typed)
    else:
        assert name in ("help", *COMMANDS)


def check_groups(typed: list[str]) -> None:
    """The launcher and the sweeper exist, whether or not they are installed."""
    for word in typed:
        if word.startswith(("launcher=", "sweeper=")):
            assert (ROOT / f"configs/{word.replace('=', '/')}.yaml").is_file(), word


def first_of(word: str) -> str:
    """A word of a sweep with the first of its values."""
    key, _, value = word.partition("=")
    value = re.sub(r"^(tag\(\w+,)?(range|choice|interval)\(", "", value)
    return f"{key}={re.split('[,)]', value)[0]}"


def understand_data(typed: list[str]) -> None:
    """The command exists and takes these arguments."""
    name = next((key for key in OF_DATA if typed[: len(key.split())] == key.split()), None)
    if name is None:  # Several commands are meant.
        assert any(key.startswith(" ".join(typed)) for key in OF_DATA)
        return
    given = typed[len(name.split()) :]
    takes = inspect.signature(OF_DATA[name].function()).parameters
    required = [key for key, parameter in takes.items() if parameter.default is parameter.empty]
    assert len([word for word in given if "=" not in word]) in (0, len(required)), typed
    assert all(word.partition("=")[0] in takes for word in given if "=" in word), typed
    if name == "download" and given and given[0].islower():
        assert given[0] in NAMES, typed


# ---- the generated reference


@pytest.fixture(scope="module")
def reference() -> dict:
    sys.path.insert(0, str(DOCS))
    try:
        return runpy.run_path(str(DOCS / "reference.py"))
    finally:
        sys.path.remove(str(DOCS))


def test_the_reference_has_every_key_with_its_description(reference: dict) -> None:
    found = "\n".join(reference["keys_of"](page) for page in reference["GROUPS"])
    for key in keys().values():
        assert found.count(f"## `{key.path}`\n") == 1, key.path
        for meaning in key.meanings:
            assert reference["text_of"](meaning.argument) in found, key.path
    assert "- `50` in model=cyclegan" in found
    pages = {path.stem for path in (DOCS / "reference" / "keys").glob("*.md")}
    assert pages == {*reference["GROUPS"], "index"}


def test_the_reference_has_every_command(reference: dict) -> None:
    found = reference["all_commands"]()
    for name in COMMANDS:
        assert f"## `gantrain {name}`" in found
    for name in OF_DATA:
        assert f"### `gantrain data {name}`" in found
    assert "| `memory` | `auto` | one of auto, whole, strips |" in found


def test_every_page_that_is_included_exists(reference: dict) -> None:
    for page in PAGES:
        for name in re.findall(r"^\{\{(.+)\}\}$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE):
            assert name in reference["PARTS"] or (ROOT / name).is_file(), f"{page}: {name}"


def test_links_of_a_built_site_are_checked(tmp_path: Path) -> None:
    broken = runpy.run_path(str(ROOT / "scripts/check_links.py"))["broken"]
    (tmp_path / "a.html").write_text('<p id="here"><a href="b/#x">b</a><a href="https://x.org/y">x</a><a href="#here">')
    (tmp_path / "b").mkdir()
    (tmp_path / "b/index.html").write_text('<p id="x"><a href="../a.html#there">a</a><img src="lost.png">')
    assert broken(tmp_path) == ["b/index.html: ../a.html#there", "b/index.html: lost.png"]


# ---- the help beside pages


def test_the_help_beside_pages_is_that_of_the_documentation() -> None:
    pytest.importorskip("markdown_it")
    written = runpy.run_path(str(ROOT / "scripts/make_help.py"))["document"]()
    assert written == HELP.read_text(encoding="utf-8"), "run scripts/make_help.py"


def test_links_to_the_help_lead_to_its_sections() -> None:
    text = HELP.read_text(encoding="utf-8")
    found = re.findall(r'id="([^"]+)"', text)
    assert len(found) == len(set(found)) > 20
    assert re.findall(r'(?:src|href)="(?!https?:|#)([^"]+)"', text) == ["icon.svg", "page.css"]
    script = (HELP.parent / "training.js").read_text(encoding="utf-8")
    topics = dict(
        re.findall(r'^    "?([a-z ]+)"?: "([a-z-]+)",$', script.partition("TOPICS = {")[2].partition("}")[0], re.M)
    )
    notes = (ROOT / "gantrain/training/diagnostics.py").read_text(encoding="utf-8")
    assert len(topics) == 4
    assert all(words in notes for words in topics)
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "gantrain/report/pages").glob("*.py")]
    links = [*re.findall(r'href="#([^"]+)"', text), *topics.values(), *re.findall(r'helpOn\("([^"]+)"', script)]
    links += [topic for page in pages for topic in re.findall(r'topic(?:: str)? ?= ?"([^"]+)"', page)]
    assert len(links) > 12
    assert set(links) <= set(found)
