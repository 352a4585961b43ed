"""The result folders of ``gantrain test``: what a command writes, replaces and removes."""

from __future__ import annotations

import shutil
from pathlib import Path

from translated import (
    KINDS_A,
    KINDS_B,
    RESNET,
    SIZES,
    bits,
    expected,
    files,
    image,
    inside,
    linked,
    refused,
    squeezed,
    weights_file,
)

from gantrain.cli.main import main


def test_a_command_removes_only_the_results_of_the_previous_one(trained) -> None:
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine"]
    for own_file in ("mine/real_a/own.png", "mine/notes/own.txt", "mine/fake_b/n65_9.png"):
        Path(own_file).parent.mkdir(parents=True, exist_ok=True)
        Path(own_file).write_text("mine")
    own = files("mine")
    assert main(test) == 0
    assert len(files("mine")) == len(own) + 4 * 5 + 4 * 3
    assert main([*test, "direction=b_to_a"]) == 0
    assert files("mine") == sorted(own + expected({KINDS_B: ["n66_0", "n66_1", "n66_2"]}))
    assert linked("mine") == expected({KINDS_B: ["n66_0", "n66_1", "n66_2"]})
    assert main([*test, "num=2"]) == 0
    both = expected({KINDS_A: ["n65_0", "n65_1"], KINDS_B: ["n66_0", "n66_1"]})
    assert (files("mine"), linked("mine")) == (sorted(own + both), both)
    assert main([*test, "num=3", "batch_size=2", "direction=a_to_b"]) == 0
    assert linked("mine") == expected({KINDS_A: ["n65_0", "n65_1", "n65_2"]})
    assert all(Path("mine", name).read_text() == "mine" for name in own)


def test_a_failing_command_leaves_the_previous_results(trained, capsys) -> None:
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine", "direction=a_to_b", "batch_size=1"]
    for name in "abd":
        image(f"photos/{name}.png", 40, 40)
    photos = ["data=single", "data.root=photos"]
    assert main([*test, *photos]) == 0
    before, page = bits("mine"), Path("mine/index.html").read_bytes()
    refused(capsys, *test[:-2], *photos, "direction=c")
    refused(capsys, *test, "data=single", "data.root=nowhere")
    Path("photos/c.png").write_bytes(b"")
    assert "photos/c.png" in refused(capsys, *test, *photos)
    assert bits("mine") == before
    assert Path("mine/index.html").read_bytes() == page
    assert not Path("mine.part").exists()
    Path("photos/b.png").unlink()
    Path("photos/c.png").unlink()
    assert main([*test, *photos]) == 0
    assert files("mine") == linked("mine") == expected({KINDS_A: ["a", "d"]})


def test_only_leftovers_of_a_killed_command_are_removed(trained, capsys) -> None:
    image("photos/a.png", 40, 40)
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine", "direction=a_to_b"]
    test += ["data=single", "data.root=photos"]
    Path("mine.part").mkdir()
    Path("mine.part/notes.txt").write_text("mine")
    assert "mine.part exists" in refused(capsys, *test)
    assert Path("mine.part/notes.txt").read_text() == "mine"
    Path("mine.part/notes.txt").rename("mine.part/files.txt")  # This file marks a folder of the command.
    assert main(test) == 0
    assert not Path("mine.part").exists()
    assert files("mine") == expected({KINDS_A: ["a"]})
    # A file may replace a folder that has become empty.
    Path("photos/a.png").unlink()
    image("photos/a.png/1.jpg", 40, 40)
    assert main(test) == 0
    assert files("mine") == expected({KINDS_A: ["a.png/1"]})
    shutil.rmtree("photos")
    image("photos/a.png", 40, 40)
    assert main(test) == 0
    assert files("mine") == expected({KINDS_A: ["a"]})


def test_replacing_the_results_of_other_weights_is_reported(capsys) -> None:
    image("photo.png", 32, 32)
    photo = ["data=single", "data.root=photo.png", "accelerator=cpu"]
    for folder in ("one", "two"):
        Path(folder).mkdir()
        weights_file(f"{folder}/latest_net_G.pth", "resnet", "instance")
    assert main(["test", "weights=one/latest_net_G.pth", *photo]) == 0
    assert main(["test", "weights=one/latest_net_G.pth", *photo]) == 0
    assert "replacing" not in capsys.readouterr().err
    assert main(["test", "weights=two/latest_net_G.pth", *photo]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("replacing")]
    assert f"gantrain test weights=one/latest_net_G.pth {' '.join(photo)}" in line


def test_the_page_explains_its_columns(trained) -> None:
    assert main(["test", f"run={trained('cyclegan')}", "num=1", "out=cycle", "accelerator=cpu"]) == 0
    words = squeezed(Path("cycle/index.html"))
    also = "idt_b the other generator's output for the same input"
    assert f"a_to_b real_a is the input, fake_b the output, rec_a fake_b translated back, {also}" in words
    assert main(["test", f"run={trained('pix2pix')}", "num=1", "out=pix", "accelerator=cpu"]) == 0
    assert "a_to_b real_a is the input, fake_b the output, real_b the target" in squeezed(Path("pix/index.html"))


def test_each_folder_of_images_has_its_own_results(trained) -> None:
    test = ["test", f"run={trained('cyclegan')}", "data=single", "direction=a_to_b", "accelerator=cpu"]
    for folder in ("some/photos", "other images"):
        image(f"{folder}/1.jpg", 20, 20)
    names = {
        "some/photos": "photos",
        "some/photos/": "photos",
        "some/../some/photos/1.jpg": "1.jpg",
        "some/*/*.jpg": "some_.jpg",
        "'other images'": "other_images",
    }
    for root, name in names.items():
        assert main([*test, f"data.root={root}"]) == 0
        assert Path(f"checkpoints/cyclegan/results/test_2_single_{name}/index.html").exists(), root
    with inside(Path("some/photos")):
        assert main([*test[:1], "run=../../checkpoints/cyclegan", *test[2:], "data.root=."]) == 0
    assert len(list(Path("checkpoints/cyclegan/results").iterdir())) == 4


def test_images_without_names_are_numbered() -> None:
    for folder in ("trainA", "trainB"):
        image(f"made/{folder}/1.png", 32, 32, "L")
    command = ["model=cyclegan", "data=unaligned", "data.root=made", "data.channels=1", *SIZES, *RESNET]
    assert main(["train", *command, "name=run", "trainer.steps=1"]) == 0
    digits = ["data=digits", "data.load_size=32", "num=3", "batch_size=2", "direction=a_to_b", "accelerator=cpu"]
    assert main(["test", "run=checkpoints/run", *digits, "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({KINDS_A: ["00000", "00001", "00002"]})
