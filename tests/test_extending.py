"""EXTENDING.md: its files are written to the paths that they name, and its commands are run in order."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gantrain.training.build  # noqa: F401 - registers gantrain's own classes first
from gantrain.cli.main import main
from gantrain.registry import REGISTRIES

EXTENDING = Path(__file__).parent.parent / "EXTENDING.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "digits_data.load_size-16_network.width-4"  # how the commands name their runs


def section(title: str) -> list[tuple[str, str]]:
    """The language and the text of each code block below a heading."""
    text = EXTENDING.read_text(encoding="utf-8")
    return BLOCK.findall(text.split(f"\n## {title}\n")[1].split("\n## ")[0])


@pytest.fixture(autouse=True)
def no_plugin_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore registries, modules and the search path after the test."""
    classes = [dict(registry._classes) for registry in REGISTRIES]
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield
    for registry, before in zip(REGISTRIES, classes, strict=True):
        registry._classes = before
    for name in set(sys.modules) - modules:
        if name.startswith(("my_", "gantrain_square")):
            del sys.modules[name]
    importlib.invalidate_caches()


def install(folder: Path) -> None:
    """Put the files and metadata of a pure package on the path, as ``pip install`` does in half a minute."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def follow(title: str) -> None:
    """Write the files of a section and run its commands."""
    blocks = section(title)
    assert blocks
    for language, text in blocks:
        if language == "bash":
            for line in text.replace("\\\n", "").splitlines():
                program, *arguments = shlex.split(line)
                if program == "gantrain":
                    assert main(arguments) == 0, line
                else:
                    assert [program, arguments[0]] == ["pip", "install"]
                    install(Path(arguments[1]).absolute())
            continue
        suffix = {"python": "py", "yaml": "yaml", "toml": "toml"}[language]
        path = Path(re.findall(rf"\A(?:# @.*\n)?# (\S+\.{suffix})$", text, re.MULTILINE)[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


def logged(run: str) -> dict[str, float]:
    return json.loads(Path(f"checkpoints/{run}/losses.jsonl").read_text().splitlines()[-1])


def test_the_model_templates_train_and_sample(capsys) -> None:
    follow("A model")
    assert {"d_real", "d_fake", "drift", "g"} <= logged("drift").keys()
    assert len(list(Path("checkpoints/drift/results").rglob("*.png"))) >= 4
    assert {"d", "g"} <= logged(f"relativistic_{RUN}").keys()
    assert list(Path(f"checkpoints/relativistic_{RUN}/images").rglob("*samples*"))
    capsys.readouterr()
    typed = ["train", "--config-dir", "conf", "plugins=[my_models]", "model=drift", "model.drift=abc"]
    assert main(typed) == 2
    assert re.search(r"model\.drift: .*'abc'", capsys.readouterr().err)


def test_the_network_template_trains_with_labels() -> None:
    follow("A network")
    (run,) = Path("checkpoints").glob("cgan_digits_*")
    assert {"d_real", "d_fake", "g"} <= logged(run.name).keys()
    assert "projection" in (run / "config.yaml").read_text()


def test_the_data_template_trains_two_models() -> None:
    follow("A data mode")
    for model in ("dcgan", "cgan"):
        assert logged(f"{model}_discs_data.load_size-16_network.width-4")["step"] == 4
    discs = sys.modules["my_data"].Discs
    train, test = (discs(count=4, load_size=8, phase=phase) for phase in ("train", "test"))
    assert train.fingerprint != test.fingerprint
    assert not any(train.item(i, 0)["image"].equal(test.item(j, 0)["image"]) for i in range(4) for j in range(4))
    assert train.item(1, 0)["image"].equal(train.item(1, 1)["image"].flip(-1))


def test_the_optimizer_template_trains() -> None:
    follow("An optimizer")
    (run,) = Path("checkpoints").glob("dcgan_digits_*lion*")
    # The rates of dcgan on the digits decay; this is the last of four steps.
    assert logged(run.name)["lr_discriminator"] == pytest.approx(1e-4 / 2)


def test_the_logger_template_writes_a_line_per_step() -> None:
    follow("A logger")
    lines = Path("checkpoints/diary/diary.txt").read_text().splitlines()
    assert lines[0].startswith("learning rate ")
    assert [line.partition(":")[0] for line in lines[1:-1]] == ["step 2", "step 4", "step 4"]  # Losses, then metrics.
    assert lines[-1] == "done"
    assert Path("checkpoints/diary/samples_4.png").exists()
    assert Path("checkpoints/diary/losses.csv").exists()


def test_the_packaged_plugin_is_found_by_its_entry_point(capsys) -> None:
    follow("Packaging a plug-in")
    assert re.search(r"^model.name=square +The generator minimises", capsys.readouterr().out, re.MULTILINE)
    assert logged(f"square_{RUN}")["step"] == 4


def test_every_code_block_of_the_page_is_run() -> None:
    titles = ["A model", "A network", "A data mode", "An optimizer", "A logger", "A metric", "Packaging a plug-in"]
    assert sum(len(section(title)) for title in titles) == len(BLOCK.findall(EXTENDING.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "EXTENDING.md", "README.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    root = EXTENDING.parent
    text = (root / page).read_text(encoding="utf-8")
    own = r"(?:gantrain|configs|tests|scripts|docs|benchmarks|\.ci|\.github)/[\w./-]*"
    named = re.findall(rf"`({own})`|\]\(((?!https?:|#)[^)]+)\)", text)
    assert named
    for path, _, anchor in (found.partition("#") for found in {code or link for code, link in named}):
        assert (root / path).exists(), path
        headings = re.findall(r"^#+ (.+)$", (root / path).read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], anchor


def test_the_metric_template_measures() -> None:
    follow("A metric")
    (line,) = map(json.loads, Path("checkpoints/measured/metrics.jsonl").read_text().splitlines())
    assert {"fid", "centres"} <= line.keys()
    assert "thumbnails 1" in line["protocol"]
