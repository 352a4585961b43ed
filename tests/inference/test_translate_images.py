"""``gantrain test`` translates users' images of any size, depth, mode and name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pages import data_of, named_by
from PIL import Image
from translated import (
    KINDS_A,
    KINDS_B,
    RESNET,
    SIZES,
    Reader,
    deep,
    expected,
    files,
    image,
    layout,
    linked,
    pixels,
    refused,
    unit,
)

import gantrain
from gantrain.cli.main import main
from gantrain.data.base import drawn as sample


def test_images_of_any_size_are_translated_in_their_size(trained) -> None:
    sizes = {"wide": (32, 355), "tall": (355, 32), "large": (700, 1100), "odd": (33, 47), "dot": (1, 1)}
    for name, size in sizes.items():
        image(f"photos/{name}.png", *size)
    test = ["test", f"run={trained('cyclegan')}", "data=single", "data.root=photos", "accelerator=cpu"]
    assert main([*test, "direction=b_to_a", "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({KINDS_B: list(sizes)})
    for name, (height, width) in sizes.items():
        for kind in KINDS_B:
            assert Image.open(f"mine/{kind}/{name}.png").size == (width, height)
        assert np.array_equal(pixels(f"mine/real_b/{name}.png"), pixels(f"photos/{name}.png"))
    # The default direction is a_to_b, and the folder is named after the data.
    assert main([*test, "num=2"]) == 0
    assert files("checkpoints/cyclegan/results/test_2_single_photos") == expected({KINDS_A: ["dot", "large"]})


def test_the_root_may_be_an_image_or_a_pattern(trained) -> None:
    for name in ("a/1.jpg", "a/2.png", "b/3.jpg"):
        image(f"photos/{name}", 32, 32)
    test = ["test", f"run={trained('cyclegan')}", "data=single", "accelerator=cpu", "out=mine"]
    for root, names in {
        "photos/b/3.jpg": ["3"],
        "photos/*/*.jpg": ["a/1", "b/3"],
        "photos/a/?.png": ["2"],
        "photos": ["a/1", "a/2", "b/3"],
    }.items():
        assert main([*test, f"data.root={root}"]) == 0
        assert files("mine") == linked("mine") == expected({KINDS_A: names}), root


def test_every_image_has_its_own_result(trained) -> None:
    names = {
        "x.jpg": "x",
        "x.png": "x_png",
        "x.png.jpg": "x_jpg",
        "x.webp": "x_webp",
        "x_png.png": "x_png_png",
        "Y.png": "Y",
        "y.bmp": "y_bmp",  # Some file systems ignore case.
        "sub/x.jpg": "sub/x",
        "other/x.jpg": "other/x",
        "v1.2.jpg": "v1.2",
        "v1.3.jpg": "v1.3",
    }
    for name in names:
        image(f"photos/{name}", 20, 20)
    photos = ["data=single", "data.root=photos", "direction=a_to_b"]
    assert main(["test", f"run={trained('cyclegan')}", *photos, "out=mine", "accelerator=cpu"]) == 0
    assert files("mine") == linked("mine")
    (table,) = data_of("mine", "results")["tables"]
    column = table["kinds"].index("real_a")
    rows = [name for name, *_ in table["rows"]]
    found = [named_by(links[column]) for _, links, *_ in table["rows"]]
    assert sorted(rows) == sorted(names)
    assert len(set(found)) == len(found) == len(names)
    for name, made in zip(rows, found, strict=True):
        if not name.endswith("webp"):  # It is not stored without loss.
            assert np.array_equal(pixels(f"mine/{made}"), pixels(f"photos/{name}")), name
    assert dict(zip(rows, found, strict=True)) == {name: f"real_a/{made}.png" for name, made in names.items()}


def test_16_bit_images_have_16_bit_results() -> None:
    for folder in ("trainA", "trainB", "testA", "testB"):
        deep(f"made/{folder}/1.png", 36, 36)
    command = ["model=cyclegan", "data=unaligned", "data.root=made", "data.channels=1", *SIZES, *RESNET]
    assert main(["train", *command, "name=run", "trainer.steps=1"]) == 0
    original = deep("scans/1.png", 33, 47)
    scans = ["data=single", "data.root=scans", "direction=a_to_b", "out=mine", "accelerator=cpu"]
    assert main(["test", "run=checkpoints/run", *scans]) == 0
    assert files("mine") == expected({KINDS_A: ["1"]})
    made = gantrain.load("checkpoints/run").translate(unit("scans/1.png").float())
    values = (made[0, 0].double().numpy() + 1) * 32767.5
    for kind in KINDS_A:
        assert Image.open(f"mine/{kind}/1.png").mode == "I;16"
    assert np.array_equal(pixels("mine/real_a/1.png"), original)
    assert np.abs(pixels("mine/fake_b/1.png") - values).max() <= 1
    assert len(np.unique(pixels("mine/fake_b/1.png"))) > 300  # 8 bits have only 256 values.


def test_images_of_every_mode_become_colour_images(trained) -> None:
    image("photos/gray.png", 20, 24, "L")
    image("photos/clear.png", 20, 24, "RGBA")
    transparent = Image.open("photos/clear.png")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save("photos/clear.png")
    image("photos/print.jpg", 20, 24, "CMYK")
    image("photos/few.png", 20, 24, "P")
    photos = ["data=single", "data.root=photos", "direction=a_to_b", "out=mine", "accelerator=cpu"]
    assert main(["test", f"run={trained('cyclegan')}", *photos]) == 0
    assert files("mine") == expected({KINDS_A: ["clear", "few", "gray", "print"]})
    for path in Path("photos").iterdir():
        source = Image.open(path)
        wanted = source.convert("RGB")
        if source.mode == "RGBA":
            wanted = Image.alpha_composite(Image.new("RGBA", source.size, "white"), source).convert("RGB")
        shown = Image.open(f"mine/real_a/{path.stem}.png")
        assert shown.mode == Image.open(f"mine/fake_b/{path.stem}.png").mode == "RGB"
        assert np.abs(np.asarray(shown).astype(int) - np.asarray(wanted)).max() <= 1, path


@pytest.mark.parametrize("place", ["a", "z"])
@pytest.mark.parametrize("content", [b"", b"not an image\n"])
def test_a_corrupt_image_is_named_in_one_line(content: bytes, place: str, trained, capsys) -> None:
    image("photos/m.jpg", 20, 20)
    Path(f"photos/{place}.jpg").write_bytes(content)
    photos = ["data=single", "data.root=photos", "accelerator=cpu"]
    assert f"photos/{place}.jpg" in refused(capsys, "test", f"run={trained('cyclegan')}", *photos)


HOSTILE = [
    "with space",
    "#1",
    "100%",
    "%41",
    "<b>bold<b>",
    "<script>alert(1)<",
    "a&lt;b&amp;",
    "\"quoted\" 'twice'",
    "?q=1",
    "über 斑马 🦓",
    "a\nline",
    "a\u2028line",
    "colon:x",
    "dots....",
    "back\\slash",
]


def test_names_of_any_characters_are_linked_and_escaped(trained) -> None:
    for name in HOSTILE:
        image(f"photos/{name}.png", 20, 20)
        image(f"photos/sub #{name}/1.png", 20, 20)
    strange = "no text \udcff"  # invalid UTF-8
    Image.new("RGB", (20, 20)).save(f"photos/{strange}.png")
    photos = ["data=single", "data.root=photos", "direction=a_to_b", "out='<i>my results'", "accelerator=cpu"]
    assert main(["test", f"run={trained('cyclegan')}", *photos]) == 0
    names = [*HOSTILE, strange, *(f"sub #{name}/1" for name in HOSTILE)]
    assert files("<i>my results") == linked("<i>my results") == expected({KINDS_A: names})
    page = Reader(Path("<i>my results/index.html"))
    assert not page.tags & {"b", "i"}
    assert all(link.startswith("index_files/") for link in page.links)
    assert not {key for key in page.attributes if key.startswith("on") or key in ("quoted", "twice")}
    names = {name for name, *_ in data_of("<i>my results", "results")["tables"][0]["rows"]}
    assert {f"{name}.png" for name in HOSTILE} < names
    # The next command removes all of them.
    image("photo.png", 20, 20)
    photos[1] = "data.root=photo.png"
    assert main(["test", "run=checkpoints/cyclegan", *photos]) == 0
    assert files("<i>my results") == expected({KINDS_A: ["photo"]})


SMALL = ["model=cyclegan", "data=unaligned", "data.root=made", *SIZES, *RESNET, "name=run", "trainer.steps=1"]
TEST = ["test", "run=checkpoints/run", "accelerator=cpu"]


def test_test_images_are_the_fraction_of_the_run(workplace: Path) -> None:
    layout(Path("made"), trainA=1, trainB=1, testA=12, testB=2)
    assert main(["train", *SMALL, "data.fraction=0.3", "seed=5"]) == 0
    assert main([*TEST, "direction=a_to_b", "out=mine"]) == 0
    drawn = [f"n65_{number}" for number in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)]
    by_seed = {seed: [drawn[number] for number in sample(12, 0.3, seed)] for seed in (0, 5)}
    assert by_seed[0] != by_seed[5]
    assert files("mine") == expected({KINDS_A: by_seed[5]})


def test_bad_images_are_skipped_and_counted(workplace: Path, capfd) -> None:
    layout(Path("made"), trainA=1, trainB=1, testA=3, testB=2)
    truncated = Path("made/testA/n65_1.jpg")
    truncated.write_bytes(truncated.read_bytes()[:50])
    assert main(["train", *SMALL, "data.on_error=skip"]) == 0
    capfd.readouterr()
    assert main([*TEST, "out=mine"]) == 0
    assert files("mine") == expected({KINDS_A: ["n65_0", "n65_2"], KINDS_B: ["n66_0", "n66_1"]})
    warning = r"warning: .*skipped: 1; one: can't read the image made/testA/n65_1\.jpg"
    assert len(re.findall(warning, capfd.readouterr().err)) == 1
    assert "1 unreadable images" in " ".join(Reader(Path("mine/index.html")).words.split())
    # Other data has the on_error of the run unless it is overridden.
    other = [*TEST, "data=single", "data.root=made/testA", "direction=a_to_b", "out=other"]
    assert main(other) == 0
    assert main([*other, "+data.on_error=raise"]) == 2
    assert "gantrain: can't read the image made/testA/n65_1.jpg" in capfd.readouterr().err
