"""Every command of the README, word for word: those that need no network run, the others are refused in one line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from gantrain.cli.main import main
from gantrain.exports.browser import MODULE, RUNTIME, WASM

ROOT = Path(__file__).parent.parent
ABSENT = ("reproduce pix2pix",)  # They need the network, and are refused in one line.
SHORT = ["trainer.steps=1", "data.batch_size=2", "data.num_workers=0", "network.width=4"]


def commands() -> list[str]:
    """The commands in code blocks, and those in the text that are complete."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("&&")]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(words.split()) for words in re.findall(r"(?<!`)`(gantrain [^`]+)`", rest)]
    lines = [re.sub(r"\s+#.*", "", line) for line in lines]
    typed = [line.removeprefix("srun ") for line in lines if line.removeprefix("srun ").startswith("gantrain ")]
    return list(dict.fromkeys(line for line in typed if "..." not in line))


def arguments(line: str) -> list[str]:
    return shlex.split(line)[1:]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a working folder with the images that the README speaks of, and no network."""
    for folder in ("images/cats", "images/dogs", "two_folders/trainA", "two_folders/trainB", "pairs/train"):
        path = Path("home", folder)
        path.mkdir(parents=True)
        for number in range(4):
            size = (128, 64) if folder.startswith("pairs") else (64, 64)
            Image.new("RGB", size, (60 * number, 0, 0)).save(path / f"{number}.png")
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("line", commands())
@pytest.mark.usefixtures("place", "warm_python", "few_digits")
def test_a_command_runs_or_is_refused_in_one_line(line: str, capsys) -> None:
    typed = arguments(line)
    for run in (word.removeprefix("run=") for word in typed if word.startswith("run=")):
        (training,) = (other for other in commands() if f"name={run}" in arguments(other))
        assert main([*arguments(training), *SHORT]) == 0
    if typed[0] == "train":
        typed += [*SHORT, *([] if "data=" in line else ["metrics.samples=20"])]  # The built-in data are measured.
    if "num=1000" in typed:
        typed.append("num=4")
    if "format=html" in typed:
        Path("ort").mkdir()
        for name in (RUNTIME, MODULE, WASM):
            Path("ort", name).touch()
        typed.append("ort=ort")
    capsys.readouterr()
    status = main(typed)
    shown = capsys.readouterr()
    if any(word in line for word in ABSENT):
        assert status == 1
        assert re.fullmatch(r"gantrain: [^\n]+\n", shown.err.splitlines(keepends=True)[-1]), shown.err
        assert "Traceback" not in shown.err
    else:
        assert status == 0, shown.err


def test_the_commands_are_found() -> None:
    assert len(commands()) > 10
