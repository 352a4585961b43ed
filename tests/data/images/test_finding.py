"""Which images are found: the same as ``find -L`` finds, by every reader and every tool."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gantrain.cli.main import main
from gantrain.data.images.convert import ImageFormat, read_image
from gantrain.data.images.decoding import decode
from gantrain.data.images.finding import existing, find_images, matching
from gantrain.data.images.formats import EXTENSIONS
from gantrain.data.images.headers import read_header
from gantrain.errors import ConfigError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


def found(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(root)]


def test_images_are_found_at_any_depth_with_extensions_of_any_case(tmp_path: Path) -> None:
    names = [f"{number}{suffix.upper() if number % 2 else suffix}" for number, suffix in enumerate(sorted(EXTENSIONS))]
    touch(tmp_path, *names, "deep/er/1.png", "notes.txt", "1.json")
    assert found(tmp_path) == sorted([*names, "deep/er/1.png"])
    assert {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".npy"} < EXTENSIONS
    assert {".ppm", ".pgm", ".pbm", ".gif", ".jfif", ".jpe", ".dib"} < EXTENSIONS
    assert (".avif" in EXTENSIONS) == features.check("avif")
    assert EXTENSIONS.isdisjoint({".eps", ".pdf", ".txt", ".svg"})  # Pillow would start other programs for some.


@pytest.mark.parametrize("name", ["._1.png", ".trash", "@eaDir", "__MACOSX", ".ipynb_checkpoints", "Lost+Found"])
def test_what_systems_create_holds_no_images(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / ".in a hidden folder"
    touch(root, "1.png", "cat/2.png", f"{name}/3.png" if name[-4:] != ".png" else name, f"cat/{name}/deep/4.png")
    touch(root, "Thumbs.db", ".DS_Store", "cat/desktop.ini")
    assert found(root) == ["1.png", "cat/2.png"]
    assert matching(f"{root}/**/*") == find_images(root)
    assert capsys.readouterr().err == ""


def test_links_are_followed_as_find_does(tmp_path: Path) -> None:
    touch(tmp_path, "other disk/dog/1.png", "other disk/dog/deep/2.png", "pics/cat/3.png", "single.png")
    pics = tmp_path / "pics"
    for name, target in {"dog": "../other disk/dog", "a/b": "../../other disk", "4.png": "../single.png"}.items():
        (pics / name).parent.mkdir(exist_ok=True)
        (pics / name).symlink_to(target)
    (pics / "broken.png").symlink_to("nowhere")
    (pics / "itself.png").symlink_to("itself.png")
    listed = subprocess.run(
        ["find", "-L", ".", "-type", "f", "-name", "*.png"], cwd=pics, capture_output=True, text=True, check=False
    )
    expected = sorted(Path(line) for line in listed.stdout.splitlines())
    assert len(expected) == 6
    assert found(pics) == [path.as_posix() for path in expected]
    assert matching(f"{pics}/**/*.png") == find_images(pics)
    assert found(Path(pics / "dog")) == ["1.png", "deep/2.png"]


@pytest.mark.parametrize(
    ("mode", "links"),
    [
        ("single", {"set/dog": "disk", "set/cat": "disk2"}),
        ("single", {"set/train": "two", "set/test": "two"}),
        ("aligned", {"set/A": "disk", "set/B": "disk"}),
        ("unaligned", {"set/trainA": "disk", "set/trainB": "disk2"}),
    ],
)
def test_every_reader_and_tool_follows_links(mode: str, links: dict[str, str], capsys) -> None:
    for name in ("disk/1.png", "disk/2.png", "disk2/3.png", "disk2/4.png", "two/a/5.png", "two/b/6.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 16), ord(name[-5])).save(name)
    Path("set").mkdir()
    for name, target in links.items():
        Path(name).symlink_to(f"../{target}")
    small = [f"data={mode}", "data.root=set", "data.load_size=8", "data.crop_size=8", "out=page"]
    assert main(["data", "check", *small, "quick=true"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[1:] == (["4"] if "set/dog" in links else ["2", "2"])
    if "set/train" not in links:  # Those are to be written one by one.
        assert main(["data", "lmdb", "set", "db"]) == 0
        assert "db: 4 images" in capsys.readouterr().out
        assert main(["data", "prepare", "split", "set", "out", "train=0.5", "val=0", "test=0.5"]) == 0
    assert main(["data", "prepare", "resize", "set", "small", "size=8"]) == 0
    assert "small: 4 images" in capsys.readouterr().out


@pytest.mark.parametrize("loops", [{"loop": "."}, {"a/up": "../..", "a/also": ".."}, {"a/x": "../b", "b/y": "../a"}])
def test_loops_of_links_are_noticed(tmp_path: Path, loops: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "pics/a/1.png", "pics/b/2.png")
    for name, target in loops.items():
        (tmp_path / "pics" / name).symlink_to(target)
    names = found(tmp_path / "pics")
    assert {"a/1.png", "b/2.png"} <= set(names)
    assert len(names) <= 4  # Each folder may be found through a link beside it, too.
    assert matching(f"{tmp_path}/pics/**/*.png") == find_images(tmp_path / "pics")
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("leads back to a folder above" in line for line in lines)


def test_a_folder_reached_by_two_links_is_found_twice(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.png")
    (tmp_path / "pics").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pics" / name).symlink_to("../store")
    assert found(tmp_path / "pics") == ["cat/1.png", "dog/1.png"]


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images whose sub-folder ``dog`` can't be read, also for the superuser."""
    for folder in ("cat", "dog"):
        (tmp_path / "pics" / folder).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (32, 16), (number * 50, 90, 20)).save(tmp_path / f"pics/{folder}/{number}.png")
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (tmp_path / "train").symlink_to("pics")
    monkeypatch.setattr(os, "scandir", refuse)
    return tmp_path / "pics"


COMMANDS = {
    "train": "train data=single data.root={} data.num_workers=0 trainer.steps=1 dry_run=true",
    "pattern": "train data=single data.root={}/**/*.png data.num_workers=0 trainer.steps=1 dry_run=true",
    "patterns of folders": "train data=single data.root={}/*/*.png data.num_workers=0 trainer.steps=1 dry_run=true",
    "aligned": "train model=pix2pix data=aligned data.root={}/.. dry_run=true",
    "check": "data check data=single data.root={} out=page",
    "lmdb": "data lmdb {} out",
    "split": "data prepare split {} out",
    "resize": "data prepare resize {} out size=8",
    "split_pairs": "data prepare split_pairs {} out",
    "pairs": "data prepare pairs {} {} out",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unreadable_folder_is_named_by_every_command(closed: Path, command: str, capsys) -> None:
    assert main(COMMANDS[command].format(closed, closed).split()) == 2
    error = capsys.readouterr().err
    assert "can't read the folder " in error
    assert "/dog (Permission denied)" in error
    assert "chmod" in error
    assert not Path("out").exists()


def test_skipped_files_are_reported_once_by_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "1.png", "2.xcf", "a/3.XCF", "a/labels.csv", "README", ".hidden.xcf")
    for _ in range(2):
        find_images(tmp_path)
    error = capsys.readouterr().err
    assert error.count(f"{tmp_path}: 4 files are not read") == 1
    assert ".xcf (2)" in error
    assert ".csv (1)" in error
    assert "README (1)" in error


def test_a_folder_of_other_files_alone_names_their_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "1.heics", "2.psd", "3.psd")
    with pytest.raises(ConfigError, match=r"no image in .*\.ppm.*found: \.psd \(2\), \.heics \(1\)\)"):
        find_images(tmp_path)


def test_nothing_is_said_of_a_folder_of_images_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_images(touch(tmp_path, "1.png", "a/2.gif"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("suffix", sorted(EXTENSIONS - {".npy", ".pfm", ".pbm"}))
def test_every_suffix_can_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"1{suffix}"
    Image.new("RGB" if suffix != ".pgm" else "L", (12, 8), "white").save(path)
    pixels = read_image(path, ImageFormat(3, "uint8"))
    assert pixels.shape == (8, 12, 3)
    assert pixels.min() > 250
    assert read_header(path, 3)[:2] == (8, 12)


@pytest.mark.parametrize("largest", [255, 256, 1023, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_portable_images_keep_their_depth(tmp_path: Path, kind: str, largest: int) -> None:
    channels = 3 if kind in ("P3", "P6") else 1
    values = np.random.default_rng(0).integers(0, largest + 1, (4, 5, channels))
    path = tmp_path / "1.pnm"
    header = f"{kind}\n# a comment\n5 4\n{largest}\n".encode()
    text = "# another\n" + "\n".join(map(str, values.ravel()))
    path.write_bytes(header + (text.encode() if kind in ("P2", "P3") else _binary(values, largest)))
    decoded = decode(path, channels).pixels
    depth = "uint8" if largest == 255 else "uint16"
    assert decoded.dtype == depth == read_header(path, channels).depth
    np.testing.assert_array_equal(decoded, np.rint(values / largest * np.iinfo(depth).max))
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(ConfigError, match=f"can't read the image {path}: "):
        decode(path, channels)


def _binary(values: np.ndarray, largest: int) -> bytes:
    return values.astype(">u2" if largest > 255 else "u1").tobytes()


def test_names_differing_only_in_their_unicode_form_are_found(tmp_path: Path) -> None:
    composed, decomposed = "\u00e9t\u00e9", "e\u0301te\u0301"
    touch(tmp_path, f"{decomposed}/{decomposed}.png")
    stored = tmp_path / decomposed / f"{decomposed}.png"
    assert existing(tmp_path / composed / f"{composed}.png") == stored
    assert existing(tmp_path / composed / "missing.png").name == "missing.png"
    for pattern in ("*/*{}.png", "**/{}.png", "{}/**/*.png"):
        assert matching(f"{tmp_path}/{pattern.format(composed)}") == [stored]
    both = touch(tmp_path, f"{composed}/{composed}.png") / composed / f"{composed}.png"
    assert existing(both) == both
    assert existing(stored) == stored
