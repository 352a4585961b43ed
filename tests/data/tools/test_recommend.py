"""Settings that ``data check`` and a dry run recommend for a data set; whoever takes them gets no others."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import pytest
from conftest import assert_mentions
from data_check import check, save

from gantrain.cli.main import main
from gantrain.data.tools import recommend
from gantrain.data.tools.recommend import _of_small

AUGMENT = "model.augment=[color,translation,cutout]"


def recommended(printed: str) -> tuple[list[str], list[str]]:
    """The overrides, and the words of the command."""
    lines = printed.splitlines()
    found = [line.split(": ")[0].split()[1] for line in lines if line.startswith("recommended ")]
    commands = [line.removeprefix("to apply    ") for line in lines if line.startswith("to apply ")]
    return found, shlex.split(commands[0]) if commands else []


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(96, 128)] * 3, "data.load_size=[48,64]"),
        ([(128, 96)] * 3, "data.load_size=[64,48]"),
        ([(480, 640)] * 3, "data.load_size=[48,64]"),
        ([(300, 500)] * 3, "data.load_size=[48,80]"),
        ([(40, 50)] * 3, "data.load_size=[40,48]"),
        ([(40, 40)] * 3, "data.load_size=40"),
        ([(64, 64), (100, 90), (80, 200)], None),  # No shape is that of most images.
        ([(64, 64)] * 3, None),
    ],
)
def test_the_size_has_the_shape_of_most_images(sizes: list[tuple[int, int]], expected: str | None) -> None:
    for number, size in enumerate(sizes):
        save(f"pics/{number}.png", number, size=size)
    found, _ = recommended(check("data=single", "data.root=pics", "quick=true")[1])
    assert found == [*([expected] if expected else []), AUGMENT, "data.batch_size=3"]


def test_no_size_is_recommended_that_the_network_refuses() -> None:
    for number in range(3):
        save(f"pics/{number}.png", number, size=(30, 48))
    for words, expected in (["model=dcgan"], ["data.load_size=[24,40]"]), (["model=sngan", "data.load_size=32"], []):
        assert recommended(check("data=single", "data.root=pics", *words)[1])[0][:-2] == expected


def test_the_command_trains_and_has_nothing_left_to_recommend(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        save(f"pics/{'few' if number < 3 else 'many'}/{number}.png", number, size=(30, 48))
    words = ["data=single", "data.root=pics", "model=cgan", "data.batch_size=20"]
    found, command = recommended(check(*words)[1])
    assert found == ["data.load_size=[24,40]", AUGMENT, "data.balance=true", "data.batch_size=12"]
    assert command[:2] == ["gantrain", "train"]
    assert main(["train", *words, "dry_run=true"]) == 0
    assert recommended(capsys.readouterr().out) == (found, command)
    small = ["network.width=4", "metrics=[]", "data.num_workers=0"]
    assert main([*command[1:], *small, "dry_run=true"]) == 0
    assert recommended(capsys.readouterr().out) == ([], [])
    assert main([*command[1:], *small, "trainer.epochs=null", "trainer.steps=1"]) == 0


def test_pairs_and_domains_are_cut_rather_than_distorted() -> None:
    for number in range(3):
        for folder in ("trainA", "trainB"):
            save(f"set/{folder}/{number}.png", number, size=(20, 40))
        save(f"pairs/train/{number}.png", number, size=(20, 80))
        save(f"square/train/{number}.png", number, size=(40, 80))
    scaling = ["data.preprocess=scale_shortside_and_crop"]
    small = ["data.load_size=16", "data.crop_size=16"]
    for words, expected in (
        (["data=unaligned", "data.root=set"], scaling),
        (["data=aligned", "data.root=pairs"], scaling),
        (["data=aligned", "data.root=square"], []),
        (["data=unaligned", "data.root=set", *scaling], []),
    ):
        found, _ = recommended(check(*words, *small)[1])
        model = "model=pix2pix" if words[0] == "data=aligned" else "model=cyclegan"
        assert found == [model, *expected]
        assert recommended(check(*words, *small, model)[1])[0] == expected


def test_translated_images_are_not_enlarged() -> None:
    for size, expected in ((100, 96), (20, 32), (300, None)):
        for number, folder in enumerate(("trainA", "trainB")):
            save(f"set{size}/{folder}/0.png", number, size=(size, size))
        sizes = [f"data.load_size={expected}", f"data.crop_size={expected}"] if expected else []
        sizes.insert(0, "model=cyclegan")  # The default model makes images from noise.
        assert recommended(check("data=unaligned", f"data.root=set{size}", "quick=true")[1])[0] == sizes


def test_no_size_is_recommended_for_images_that_are_not_scaled() -> None:
    for number, folder in enumerate(("trainA", "trainB")):
        save(f"set/{folder}/0.png", number, size=(100, 100))
    status, printed = check("data=unaligned", "data.root=set", "model=cyclegan", "data.preprocess=none", "quick=true")
    assert (status, recommended(printed)[0]) == (0, [])
    assert "scaled up" not in printed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainer.devices=2"], "data.batch_size=4"),
        (["trainer.micro_batch=2"], "data.batch_size=4"),
        (["trainer.micro_batch=5", "data.batch_size=10"], "data.batch_size=5"),
        (["trainer.devices=2", "trainer.micro_batch=4"], None),  # One batch needs more than there are.
        ([], "data.batch_size=5"),
    ],
)
def test_a_recommended_batch_fits_ranks_and_micro_batches(words: list[str], expected: str | None, capsys) -> None:
    for number in range(5):
        save(f"pics/{number}.png", number, size=(64, 64))
    small = ["network.width=4", "metrics=[]", "data.num_workers=0", "trainer.accelerator=cpu", "dry_run=true"]
    assert main(["train", "data=single", "data.root=pics", "data.batch_size=8", *words, *small]) == 0
    found, command = recommended(capsys.readouterr().out)
    assert found == [AUGMENT, *([expected] if expected else [])]
    assert main([*command[1:], "dry_run=true"]) == 0


def test_no_batch_of_a_single_image_is_recommended(capsys) -> None:
    save("pics/0.png", 0, size=(64, 64))
    assert main(["train", "data=single", "data.root=pics", "data.batch_size=8", "metrics=[]", "dry_run=true"]) == 0
    printed = capsys.readouterr().out
    assert recommended(printed)[0] == [AUGMENT]
    assert "one image is few" in printed


def test_one_channel_is_recommended_for_gray_images_only() -> None:
    for number in range(2):
        save(f"gray/{number}.png", number, size=(64, 64), channels=1)
        save(f"mixed/{number}.png", number, size=(64, 64), channels=1 + 2 * number)
    for words, expected in ((["gray"], True), (["mixed"], False), (["gray", "data.channels=1"], False)):
        found = recommended(check("data=single", f"data.root={words[0]}", *words[1:])[1])[0]
        assert ("data.channels=1" in found) is expected


@pytest.mark.parametrize("model", ["gan", "sgan", "sngan", "colorization", "pix2pix", "discogan", "fastcut"])
def test_what_is_recommended_is_accepted(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save(f"pics/{'few' if number < 1 else 'many'}/{number}.png", number, size=(40, 40))
        for folder in ("trainA", "trainB"):
            save(f"pairs/{folder}/{number}.png", number, size=(40, 60), channels=1)
    data = ["data=single", "data.root=pics"]
    if model in {"pix2pix", "discogan", "fastcut"}:
        data = [f"data={'aligned' if model == 'pix2pix' else 'unaligned'}", "data.root=pairs"]
    elif model == "sngan":
        data += ["data.load_size=32"]
    small = ["network.width=4", "metrics=[]", "data.num_workers=0", "dry_run=true"]
    assert main(["train", f"model={model}", *data, *small]) == 0
    found, command = recommended(capsys.readouterr().out)
    assert found
    assert main([*command[1:], "dry_run=true"]) == 0
    assert recommended(capsys.readouterr().out) == ([], [])


def test_a_dry_run_says_of_how_many_images_it_knows(monkeypatch, capsys) -> None:
    monkeypatch.setattr(recommend, "SAMPLE", 4)
    for number in range(12):
        save(f"pics/{'few' if number < 3 else 'many'}/{number}.png", number, size=(40, 40))
    small = ["network.width=4", "metrics=[]", "data.num_workers=0", "dry_run=true"]
    assert main(["train", "data=single", "data.root=pics", *small]) == 0
    reasons = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert_mentions(reasons["recommended data.load_size=40"], "4 of 12 images")
    assert_mentions(reasons["recommended data.balance=true"], "3 to 9 of 12 images")


def test_a_model_that_can_train_on_two_domains_is_recommended() -> None:
    for folder in ("trainA", "trainB"):
        save(f"set/{folder}/0.png", size=(32, 32))
    words = ["data=unaligned", "data.root=set", "quick=true", "data.load_size=32", "data.crop_size=32"]
    small = ["network.width=4", "metrics=[]", "data.num_workers=0", "dry_run=true"]
    for more, expected in (
        ([], ["model=cyclegan"]),
        (["model=pix2pix"], ["model=cyclegan"]),
        (["data.serial=true"], ["model=pix2pix"]),
        (["model=pix2pix", "data.serial=true"], []),
    ):
        found, command = recommended(check(*words, *more)[1])
        assert found == expected
        assert not expected or main([*command[1:], *small]) == 0


@pytest.mark.parametrize(
    ("model", "labelled", "expected"),
    [
        ("cgan", False, "dcgan"),
        ("cgan", True, ""),
        ("acgan", False, "dcgan"),
        ("cyclegan", True, "dcgan"),
        ("gan", 0, ""),
    ],
)
def test_a_model_that_can_train_on_one_set_is_recommended(model: str, labelled: bool, expected: str) -> None:
    for number in range(4):
        save(f"set/{f'class {number % 2}/' * labelled}{number}.png", number, size=(32, 32))
    words = ["data=single", "data.root=set", "quick=true", "data.load_size=32", f"model={model}"]
    found, command = recommended(check(*words)[1])
    assert [override for override in found if override.startswith("model=")] == [f"model={expected}"] * bool(expected)
    small = ["network.width=4", "metrics=[]", "data.num_workers=0", "dry_run=true"]
    assert main([*command[1:], *small]) == 0


def test_settings_of_cut_and_fastcut_for_small_images() -> None:
    for number in range(2):
        for folder in ("trainA", "trainB"):
            save(f"pairs/{folder}/{number}.png", number, size=(64, 96))
    data = ["data=unaligned", "data.root=pairs", "data.preprocess=scale_shortside_and_crop", "data.load_size=64"]
    without = ("network.generator=5", "~network.generator")  # Data are checked all the same.
    filters = ["network.generator.antialias=false", "network.generator.upsample=resize"]
    for words, expected in (
        (["model=fastcut", "data.crop_size=64"], ["model.lambda_nce=2"]),
        (["model=fastcut", "data.crop_size=64", "model.lambda_nce=1"], []),
        (["model=cut", "data.crop_size=64"], []),
        (["model=cut", "data.crop_size=32"], filters),
        (["model=cut", "data.crop_size=32", "network.generator.antialias=false"], []),
        *((["model=cut", "data.crop_size=32", word], []) for word in ("network/generator=unet_256", *without)),
        (["model=fastcut", "data.crop_size=32"], ["model.lambda_nce=2"]),
        (["model=cyclegan", "data.crop_size=32", "network.antialias=true"], []),
    ):
        assert recommended(check(*data, *words)[1])[0] == expected
    of_a_plugin = {"model": {"flip_equivariance": True}, "data": {"crop_size": 64}}
    assert _of_small(Counter({(64, 64): 2}), of_a_plugin) == []


def test_nothing_is_recommended_for_the_built_in_data() -> None:
    status, printed = check("data=digits", "quick=true")
    assert status == 0
    assert recommended(printed) == ([], [])
    page = Path("results/data_digits/index.html").read_text()
    assert "Recommended" not in page
