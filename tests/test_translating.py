"""``gantrain test`` of models that translate, as people use it: their pictures in, all that was made of them out."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_bits, newest
from pages import data_of, lines_of, named_by
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import gantrain
from gantrain.cli import main
from gantrain.interruption import Interruption
from gantrain.models.colorization import lab_to_rgb, rgb_to_lab
from gantrain.networks.patchgan import PatchGANDiscriminator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator

CPU = ["trainer.accelerator=cpu", "data.num_workers=0"]
SIZES = ["data.load_size=36", "data.crop_size=32"]
# weights from which outputs come out that differ visibly
SPREAD = ["network.generator.init=xavier", "network.generator.init_gain=1.0"]
RESNET = ["network.width=2", "network.generator.blocks=1", *SPREAD, *CPU]
COLOUR = ["data.load_size=32", "data.crop_size=32", "network.width=2"]
KINDS_A = ("real_a", "fake_b", "rec_a", "idt_b")
KINDS_B = ("real_b", "fake_a", "rec_b", "idt_a")


# ---- the pictures


def picture(path: str | Path, height: int, width: int, mode: str = "RGB", seed: int | None = None) -> Path:
    """A coarse pattern of noise, which differs from name to name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(os.fsencode(path)) if seed is None else seed)
    pixels = random.integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    pixels = pixels.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def deep(path: str | Path, height: int, width: int) -> np.ndarray:
    """A gray picture of 16 bits."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(list(os.fsencode(path))).integers(0, 65536, (height, width), dtype=np.uint16)
    Image.fromarray(pixels).save(path)
    return pixels


def layout(root: Path, size: int = 32, **counts: int) -> Path:
    """``root/trainA`` and others with so many pictures, none called as any other."""
    for folder, count in counts.items():
        for number in range(count):
            picture(root / folder / f"n{ord(folder[-1])}_{number}.jpg", size, size)
    return root


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``trained("cyclegan")`` is a copy, in the test's own folder, of a run that was trained once."""
    here = tmp_path_factory.mktemp("trained")
    layout(here / "made", trainA=3, trainB=2, testA=5, testB=3)
    for part, count in (("train", 3), ("test", 7)):
        for number in range(count):
            picture(here / f"pairs/{part}/{number}.png", 32, 64)
    data = f"data.root={here}"
    commands = {
        "cyclegan": ["model=cyclegan", "data=horse2zebra", f"{data}/made", "trainer.steps=2", *SIZES],
        # dropout and batch norm, so that the two modes differ
        "pix2pix": [
            "model=pix2pix",
            "data=facades",
            f"{data}/pairs",
            "network/generator=resnet_6blocks",
            "network.dropout=0.5",
            "trainer.steps=1",
            "data.load_size=32",
            "data.crop_size=32",
        ],
    }

    def copied(model: str) -> Path:
        if not (here / "checkpoints" / model).exists():
            with inside(here):
                assert main(["train", *commands[model], f"name={model}", *RESNET]) == 0
        return Path(shutil.copytree(here / "checkpoints" / model, Path("checkpoints") / model))

    return copied


# ---- what came out


class Reader(html.parser.HTMLParser):
    """The links, elements and words of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {key for key, _ in attrs}
        self.links += [value for key, value in attrs if key in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.words += data


def files(folder: str | Path) -> list[str]:
    """The pictures below a folder, or whatever else there is, sorted."""
    folder = Path(folder)
    everything = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(
        name for name in everything if name.partition("/")[0] not in ("index.html", "files.txt", "index_files")
    )


def linked(folder: str | Path) -> list[str]:
    """The files that the page of a folder shows, sorted."""
    tables = data_of(folder, "results")["tables"]
    found = [named_by(link) for table in tables for _, links, *_ in table["rows"] for link in links if link is not None]
    assert len(set(found)) == len(found)
    return sorted(found)


def squeezed(page: Path) -> str:
    """The words of a page, with single spaces between them."""
    return " ".join(Reader(page).words.split())


def expected(names: dict[tuple[str, ...], list[str]]) -> list[str]:
    return sorted(f"{kind}/{name}.png" for kinds, own in names.items() for kind in kinds for name in own)


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def unit(path: str | Path) -> Tensor:
    """(1, C, H, W) in [-1, 1]."""
    values = pixels(path)
    return torch.from_numpy(np.atleast_3d(values / (127.5 if values.dtype == np.uint8 else 32767.5) - 1)).permute(
        2, 0, 1
    )[None]


def rounded(image: Tensor) -> np.ndarray:
    """What a PNG of 8 bits holds of (1, 3, H, W)."""
    return ((image[0].permute(1, 2, 0).double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()


def bits(folder: str | Path) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in files(folder)}


def refused(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What a command says that ends with status 2: one line, if it had not begun to show its progress."""
    capsys.readouterr()
    assert main(list(command)) == 2
    said = [
        line
        for line in re.split(r"[\r\n]+", capsys.readouterr().err)
        if not re.search(r"image/s\]|s/image\]", line) and line.strip()
    ]
    assert len(said) == 1, said
    assert said[0].startswith("gantrain: ")
    return said[0]


# ---- networks by hand, from nothing but their weights


def normalised(state: dict[str, Tensor], place: str, x: Tensor, training: bool) -> Tensor:
    """Batch norm if there are weights for it, on its statistics or on the image's, or else instance norm."""
    if f"{place}.weight" not in state:
        return F.instance_norm(x)
    mean, var = (None, None) if training else (state[f"{place}.running_mean"], state[f"{place}.running_var"])
    return F.batch_norm(x, mean, var, state[f"{place}.weight"], state[f"{place}.bias"], training=training)


def resnet_by_hand(state: dict[str, Tensor], x: Tensor, *, blocks: int, training: bool) -> Tensor:
    """CycleGAN's generator without dropout: stem, two halvings, blocks, two doublings, end."""

    def weights(place: str) -> tuple[Tensor, Tensor | None]:
        return state[f"{place}.weight"], state.get(f"{place}.bias")

    def norm(place: str, x: Tensor) -> Tensor:
        return normalised(state, place, x, training)

    def reflected(x: Tensor, pixels: int) -> Tensor:
        return F.pad(x, (pixels,) * 4, mode="reflect")

    x = F.relu(norm("model.2", F.conv2d(reflected(x, 3), *weights("model.1"))))
    x = F.relu(norm("model.5", F.conv2d(x, *weights("model.4"), stride=2, padding=1)))
    x = F.relu(norm("model.8", F.conv2d(x, *weights("model.7"), stride=2, padding=1)))
    for number in range(10, 10 + blocks):
        inner = f"model.{number}.conv_block"
        # with dropout, the second convolution comes one place later
        second = next(place for place in (5, 6) if f"{inner}.{place}.weight" in state)
        y = F.relu(norm(f"{inner}.2", F.conv2d(reflected(x, 1), *weights(f"{inner}.1"))))
        x = x + norm(f"{inner}.{second + 1}", F.conv2d(reflected(y, 1), *weights(f"{inner}.{second}")))
    for number in (10 + blocks, 13 + blocks):
        x = F.conv_transpose2d(x, *weights(f"model.{number}"), stride=2, padding=1, output_padding=1)
        x = F.relu(norm(f"model.{number + 1}", x))
    return torch.tanh(F.conv2d(reflected(x, 3), *weights(f"model.{17 + blocks}")))


def unet_by_hand(state: dict[str, Tensor], x: Tensor, *, training: bool) -> Tensor:
    """The U-Net of pix2pix without dropout."""

    def weights(place: str) -> tuple[Tensor, Tensor | None]:
        return state[f"{place}.weight"], state.get(f"{place}.bias")

    def block(place: str, x: Tensor) -> Tensor:
        x = F.leaky_relu(x, 0.2)
        y = F.conv2d(x, *weights(f"{place}.1"), stride=2, padding=1)
        up = 3
        if f"{place}.5.weight" in state:  # not the innermost
            y = block(f"{place}.3.model", normalised(state, f"{place}.2", y, training))
            up = 5
        y = F.conv_transpose2d(F.relu(y), *weights(f"{place}.{up}"), stride=2, padding=1)
        return torch.cat([x, normalised(state, f"{place}.{up + 1}", y, training)], dim=1)

    x = block("model.model.1.model", F.conv2d(x, *weights("model.model.0"), stride=2, padding=1))
    return torch.tanh(F.conv_transpose2d(F.relu(x), *weights("model.model.3"), stride=2, padding=1))


INIT = {"init": "xavier", "init_gain": 1.0}
KEYS = {
    "width": 3,
    "blocks": 2,
    "downsamplings": 2,
    "kernel": 3,
    "stem": 7,
    "padding": "reflection",
    "dropout": 0.0,
    "upsample": "transposed",
    **INIT,
}
DEEP = {"width": 3, "depth": 5, "dropout": 0.0, "skips": True, "upsample": "transposed", **INIT}


def weights_file(path: str, network: str, norm: str, *, inputs: int = 3, outputs: int = 3) -> dict[str, Tensor]:
    """A generator saved as the reference does it, with statistics that no construction makes; and what was saved."""
    torch.manual_seed(len(network + norm))
    sizes = {"input_shape": (inputs, 32, 32), "shape": (outputs, 32, 32)}
    if network == "resnet":
        state = ResnetGenerator(**sizes, **KEYS, norm=norm).state_dict()
    else:
        state = UNetGenerator(**sizes, **DEEP, norm=norm).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape) * 0.5 + 0.3)
    torch.save(state, path)
    return state


# ---- a CycleGAN


def test_cyclegan_trains_on_folders_shows_itself_and_goes_on_to_the_same_bits(monkeypatch) -> None:
    layout(Path("made"), 256, trainA=5, trainB=3, testA=2, testB=3)
    # a pool that is full from the third step on, so that chance decides what the discriminators see
    command = ["train", "model=cyclegan", "data=horse2zebra", "data.root=made", *SIZES, *RESNET, "model.pool_size=2"]
    command += ["trainer.steps=4", "trainer.image_every=2"]
    assert main([*command, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        asked = iter([False, False, True])
        patch.setattr(Interruption, "is_asked_for", lambda self: next(asked))
        assert main([*command, "name=cut"]) == 130
    assert newest("cut")["step"] == 3
    assert main([*command, "name=cut"]) == 0
    whole, cut = newest("whole"), newest("cut")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(cut[key], whole[key], key)
    assert len(whole["model"]["pool_a._extra_state"]) == len(whole["model"]["pool_b._extra_state"]) == 2
    run = Path("checkpoints/whole")
    shown = lines_of(run, "pictures")
    assert [line["step"] for line in shown] == [2, 4]
    assert lines_of("checkpoints/cut", "pictures") == shown  # cut and gone on
    for line in shown:
        assert line["kinds"] == Path(line["url"]).stem.split("_", 2)[2].split("-")
        preview = Image.open(run / line["url"])
        assert preview.size == (8 * 34 + 2, 3 * 34 + 2)  # eight kinds; three items, as of the larger test set
        tiles = [preview.crop((2 + 34 * x, 2, 34 + 34 * x, 34)) for x in range(8)]
        assert all(low < high for tile in tiles for low, high in tile.getextrema())


def test_cyclegan_is_tested_on_every_picture_of_both_domains_in_both_directions(trained) -> None:
    run = trained("cyclegan")
    root = Path(newest("cyclegan")["config"]["data"]["root"])
    assert main(["test", f"run={run}", "accelerator=cpu"]) == 0
    results = run / "results/test_2"
    names = {KINDS_A: [f"n65_{n}" for n in range(5)], KINDS_B: [f"n66_{n}" for n in range(3)]}
    assert files(results) == linked(results) == expected(names)
    page = Reader(results / "index.html").words
    assert "5 a_to_b, 3 b_to_a" in page
    assert "mean absolute error" not in page  # without pairs there is none
    gan = gantrain.load(run)
    for source, target, name in (("a", "b", "n65_4"), ("b", "a", "n66_2")):
        original = Image.open(root / f"test{source.upper()}/{name}.jpg")
        assert original.size == (32, 32)
        real = unit(root / f"test{source.upper()}/{name}.jpg").float()
        there, back = (gan.generator_ab, gan.generator_ba)[:: 1 if source == "a" else -1]
        fake = there(real)
        made = {f"real_{source}": real, f"fake_{target}": fake, f"rec_{source}": back(fake)}
        made[f"idt_{target}"] = back(real)
        for kind, image in made.items():
            assert np.abs(pixels(results / kind / f"{name}.png").astype(int) - rounded(image)).max() <= 1, kind


def test_a_call_takes_away_what_the_last_one_wrote_and_nothing_else(trained) -> None:
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine"]
    for kept in ("mine/real_a/kept.png", "mine/notes/kept.txt", "mine/fake_b/n65_9.png"):
        Path(kept).parent.mkdir(parents=True, exist_ok=True)
        Path(kept).write_text("mine")
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


def test_a_call_that_fails_leaves_the_results_of_the_last_one(trained, capsys) -> None:
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine", "direction=a_to_b", "batch_size=1"]
    for name in "abd":
        picture(f"photos/{name}.png", 40, 40)
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


def test_what_a_killed_call_left_is_removed_and_what_somebody_else_has_there_is_not(trained, capsys) -> None:
    picture("photos/a.png", 40, 40)
    test = ["test", f"run={trained('cyclegan')}", "accelerator=cpu", "out=mine", "direction=a_to_b"]
    test += ["data=single", "data.root=photos"]
    Path("mine.part").mkdir()
    Path("mine.part/notes.txt").write_text("mine")
    assert "mine.part is in the way" in refused(capsys, *test)
    assert Path("mine.part/notes.txt").read_text() == "mine"
    Path("mine.part/notes.txt").rename("mine.part/files.txt")  # by which a call marks its own
    assert main(test) == 0
    assert not Path("mine.part").exists()
    assert files("mine") == expected({KINDS_A: ["a"]})
    # a folder that is empty now is not in the way of a file
    Path("photos/a.png").unlink()
    picture("photos/a.png/1.jpg", 40, 40)
    assert main(test) == 0
    assert files("mine") == expected({KINDS_A: ["a.png/1"]})
    shutil.rmtree("photos")
    picture("photos/a.png", 40, 40)
    assert main(test) == 0
    assert files("mine") == expected({KINDS_A: ["a"]})


def test_results_of_other_weights_are_not_replaced_without_a_word(capsys) -> None:
    picture("photo.png", 32, 32)
    photo = ["data=single", "data.root=photo.png", "accelerator=cpu"]
    for folder in ("one", "two"):
        Path(folder).mkdir()
        weights_file(f"{folder}/latest_net_G.pth", "resnet", "instance")
    assert main(["test", "weights=one/latest_net_G.pth", *photo]) == 0
    assert main(["test", "weights=one/latest_net_G.pth", *photo]) == 0
    assert "replacing" not in capsys.readouterr().err
    assert main(["test", "weights=two/latest_net_G.pth", *photo]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("replacing")]
    assert said == [f"replacing the results of: gantrain test weights=one/latest_net_G.pth {' '.join(photo)}"]


@pytest.mark.parametrize(("mode", "together"), [("train", {1}), ("eval", {3, 2})])
def test_pictures_are_translated_one_by_one_where_they_must_not_depend_on_each_other(
    mode: str, together: set[int], trained, monkeypatch
) -> None:
    run, found, forward = trained("cyclegan"), set(), ResnetGenerator.forward

    def watched(self: ResnetGenerator, image: Tensor) -> Tensor:
        found.add(len(image))
        return forward(self, image)

    monkeypatch.setattr(ResnetGenerator, "forward", watched)
    how = ["direction=a_to_b", "batch_size=3", f"network_mode={mode}", "accelerator=cpu"]
    assert main(["test", f"run={run}", *how]) == 0
    assert found == together


def test_the_page_says_what_its_columns_are(trained) -> None:
    assert main(["test", f"run={trained('cyclegan')}", "num=1", "out=cycle", "accelerator=cpu"]) == 0
    words = squeezed(Path("cycle/index.html"))
    also = "idt_b the other generator's output for the same input"
    assert f"a_to_b real_a is the input, fake_b the output, rec_a fake_b translated back, {also}" in words
    assert main(["test", f"run={trained('pix2pix')}", "num=1", "out=pix", "accelerator=cpu"]) == 0
    assert "a_to_b real_a is the input, fake_b the output, real_b the target" in squeezed(Path("pix/index.html"))


def test_folders_of_pictures_have_results_of_their_own(trained) -> None:
    test = ["test", f"run={trained('cyclegan')}", "data=single", "direction=a_to_b", "accelerator=cpu"]
    for folder in ("some/photos", "other pictures"):
        picture(f"{folder}/1.jpg", 20, 20)
    names = {
        "some/photos": "photos",
        "some/photos/": "photos",
        "some/../some/photos/1.jpg": "1.jpg",
        "some/*/*.jpg": "some_.jpg",
        "'other pictures'": "other_pictures",
    }
    for root, name in names.items():
        assert main([*test, f"data.root={root}"]) == 0
        assert Path(f"checkpoints/cyclegan/results/test_2_single_{name}/index.html").exists(), root
    with inside(Path("some/photos")):
        assert main([*test[:1], "run=../../checkpoints/cyclegan", *test[2:], "data.root=."]) == 0
    assert len(list(Path("checkpoints/cyclegan/results").iterdir())) == 4


def test_load_translates_images_of_any_size_both_ways(trained) -> None:
    gan = gantrain.load(trained("cyclegan"))
    assert not gan.training
    assert {weight.device.type for weight in gan.parameters()} == {"cpu"}
    torch.manual_seed(0)
    for height, width in ((32, 32), (33, 47), (5, 3), (64, 20)):
        image = torch.rand(2, 3, height, width) * 2 - 1
        made = {way: gan.translate(image, way) for way in ("a_to_b", "b_to_a")}
        for result in made.values():
            assert result.shape == image.shape
            assert 0.05 < result.abs().max() <= 1
            assert not result.requires_grad
        assert not torch.equal(made["a_to_b"], made["b_to_a"])
    # mirrored up to multiples of four, and cut back
    image = torch.rand(1, 3, 33, 46) * 2 - 1
    whole = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 3), (0, 2)), mode="symmetric"))
    torch.testing.assert_close(gan.translate(image, "b_to_a"), gan.generator_ba(whole)[..., :33, :46])


def test_averages_are_what_an_averaged_run_translates_with() -> None:
    layout(Path("made"), trainA=2, trainB=2)
    command = ["model=cyclegan", "data=unaligned", "data.root=made", *SIZES, *RESNET, "model.ema=0.5", "name=run"]
    assert main(["train", *command, "trainer.steps=2"]) == 0
    kept, run = newest("run")["updates"]["averages"], "checkpoints/run"
    for number, way in enumerate(("a_to_b", "b_to_a")):
        average = gantrain.load(run).generator_of(way).state_dict()
        last = gantrain.load(run, network_weights="last").generator_of(way).state_dict()
        for key in ("model.1.weight", "model.18.weight"):
            assert torch.equal(average[key], kept[f"{number}.{key}"])
            assert not torch.equal(average[key], last[key])
            assert torch.equal(last[key], newest("run")["model"][f"generator_{way.replace('_to_', '')}.{key}"])
    # and the pictures come from them too, with and without
    picture("photo.png", 32, 32)
    for choice in ("average", "last"):
        photo = ["data=single", "data.root=photo.png", "direction=a_to_b", f"network_weights={choice}"]
        assert main(["test", f"run={run}", *photo, f"out={choice}", "accelerator=cpu"]) == 0
        made = gantrain.load(run, network_weights=choice).translate(unit("photo.png").float())
        assert np.abs(pixels(f"{choice}/fake_b/photo.png").astype(int) - rounded(made)).max() <= 1
    assert bits("average")["fake_b/photo.png"] != bits("last")["fake_b/photo.png"]
    assert "moving average" in Path("average/index.html").read_text()


# ---- pix2pix


def test_pix2pix_shows_input_output_and_target_and_measures_their_distance(trained) -> None:
    run = trained("pix2pix")
    state = newest("pix2pix")
    assert main(["test", f"run={run}", "accelerator=cpu", "network_mode=eval"]) == 0
    results = run / "results/test_1"
    names = [str(number) for number in range(7)]
    assert files(results) == linked(results) == expected({("real_a", "fake_b", "real_b"): names})
    page = Reader(results / "index.html").words
    assert "eval: no dropout, batch norm on its running statistics" in page
    generator = {k.removeprefix("generator."): v for k, v in state["model"].items() if k.startswith("generator.")}
    distances = []
    for name in names:
        pair = unit(Path(state["config"]["data"]["root"]) / f"test/{name}.png").float()
        left, right = pair[..., :32], pair[..., 32:]
        # direction=b_to_a: the input is what lies on the right
        assert np.array_equal(pixels(results / f"real_a/{name}.png"), rounded(right))
        assert np.array_equal(pixels(results / f"real_b/{name}.png"), rounded(left))
        fake = resnet_by_hand(generator, right, blocks=1, training=False)
        assert np.abs(pixels(results / f"fake_b/{name}.png").astype(int) - rounded(fake)).max() <= 1
        distances.append(float((fake - left).abs().mean() / 2))
    measured = float(re.search(r"mean absolute error, a_to_b\s*([\d.]+)", page)[1])
    assert measured == pytest.approx(sum(distances) / 7, abs=1e-4)
    assert measured > 0.05


def test_the_noise_of_a_picture_is_its_names_and_neither_its_neighbours_nor_chances(trained) -> None:
    test = ["test", f"run={trained('pix2pix')}", "accelerator=cpu"]
    assert main([*test, "out=one", "batch_size=1"]) == 0
    assert main([*test, "out=five", "batch_size=5", "seed=1"]) == 0
    assert main([*test, "out=calm", "network_mode=eval"]) == 0
    one, calm = bits("one"), bits("calm")
    assert len(one) == 3 * 7
    assert bits("five") == one
    assert {name for name in one if one[name] != calm[name]} == {f"fake_b/{n}.png" for n in range(7)}
    assert "train: dropout and batch norm as in training" in Reader(Path("one/index.html")).words
    # the same picture under two names, and again under one of them among others
    for name in ("z", "y", "sub/z"):
        picture(f"photos/{name}.png", 32, 32, seed=1)
    photos = ["data=single", "data.root=photos"]
    assert main([*test, *photos, "out=named"]) == 0
    named = bits("named")
    assert len({named[f"fake_b/{name}.png"] for name in ("z", "y", "sub/z")}) == 3
    Path("photos/y.png").rename("photos/a.png")
    assert main([*test, *photos, "out=renamed", "batch_size=2"]) == 0
    assert bits("renamed")["fake_b/z.png"] == named["fake_b/z.png"]


def test_pix2pix_takes_pairs_from_two_folders_and_makes_dropout_and_batch_norm_of_a_unet() -> None:
    for part, count in (("train", 2), ("test", 3)):
        for number in range(count):
            picture(f"pairs/{part}A/{number}.jpg", 64, 64)
            picture(f"pairs/{part}B/{number}.png", 64, 64)
    # six halvings, of which the fifth has dropout
    command = ["model=pix2pix", "data=aligned", "data.root=pairs", "data.load_size=64", "data.crop_size=64", *CPU]
    command += ["network.width=2", *SPREAD, "name=run", "trainer.steps=1"]
    assert main(["train", *command]) == 0
    for out, *how in (["one"], ["again", "batch_size=2"], ["calm", "network_mode=eval"]):
        assert main(["test", "run=checkpoints/run", f"out={out}", "accelerator=cpu", *how]) == 0
    names = {("real_a", "fake_b", "real_b"): ["0", "1", "2"]}
    assert files("one") == linked("one") == expected(names)
    assert bits("one") == bits("again")
    assert bits("one")["fake_b/0.png"] != bits("calm")["fake_b/0.png"]
    for number in range(3):
        assert np.array_equal(pixels(f"one/real_a/{number}.png"), pixels(f"pairs/testA/{number}.jpg"))
        assert np.array_equal(pixels(f"one/real_b/{number}.png"), pixels(f"pairs/testB/{number}.png"))
    # as the network stands, from its weights alone
    state = {k.removeprefix("generator."): v for k, v in newest("run")["model"].items()}
    by_hand = unet_by_hand(state, unit("pairs/testA/1.jpg").float(), training=False)
    assert np.abs(pixels("calm/fake_b/1.png").astype(int) - rounded(by_hand)).max() <= 1


# ---- pictures of one's own


def test_a_folder_of_any_sizes_comes_out_in_its_own_sizes(trained) -> None:
    sizes = {"wide": (32, 355), "tall": (355, 32), "large": (700, 1100), "odd": (33, 47), "dot": (1, 1)}
    for name, size in sizes.items():
        picture(f"photos/{name}.png", *size)
    test = ["test", f"run={trained('cyclegan')}", "data=single", "data.root=photos", "accelerator=cpu"]
    assert main([*test, "direction=b_to_a", "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({KINDS_B: list(sizes)})
    for name, (height, width) in sizes.items():
        for kind in KINDS_B:
            assert Image.open(f"mine/{kind}/{name}.png").size == (width, height)
        assert np.array_equal(pixels(f"mine/real_b/{name}.png"), pixels(f"photos/{name}.png"))
    # where nobody says which way, the first, and the folder is called after the data
    assert main([*test, "num=2"]) == 0
    assert files("checkpoints/cyclegan/results/test_2_single_photos") == expected({KINDS_A: ["dot", "large"]})


def test_one_picture_and_a_pattern_will_do(trained) -> None:
    for name in ("a/1.jpg", "a/2.png", "b/3.jpg"):
        picture(f"photos/{name}", 32, 32)
    test = ["test", f"run={trained('cyclegan')}", "data=single", "accelerator=cpu", "out=mine"]
    for root, names in {
        "photos/b/3.jpg": ["3"],
        "photos/*/*.jpg": ["a/1", "b/3"],
        "photos/a/?.png": ["2"],
        "photos": ["a/1", "a/2", "b/3"],
    }.items():
        assert main([*test, f"data.root={root}"]) == 0
        assert files("mine") == linked("mine") == expected({KINDS_A: names}), root


def test_no_two_pictures_end_in_one_file(trained) -> None:
    names = {
        "x.jpg": "x",
        "x.png": "x_png",
        "x.png.jpg": "x_jpg",
        "x.webp": "x_webp",
        "x_png.png": "x_png_png",
        "Y.png": "Y",
        "y.bmp": "y_bmp",  # some file systems know no capitals
        "sub/x.jpg": "sub/x",
        "other/x.jpg": "other/x",
        "v1.2.jpg": "v1.2",
        "v1.3.jpg": "v1.3",
    }
    for name in names:
        picture(f"photos/{name}", 20, 20)
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
        if not name.endswith("webp"):  # which is not kept to the bit
            assert np.array_equal(pixels(f"mine/{made}"), pixels(f"photos/{name}")), name
    assert dict(zip(rows, found, strict=True)) == {name: f"real_a/{made}.png" for name, made in names.items()}


def test_sixteen_bits_in_are_sixteen_bits_out() -> None:
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
    assert len(np.unique(pixels("mine/fake_b/1.png"))) > 300  # more than 8 bits could hold


def test_gray_transparent_printed_and_indexed_pictures_become_colour(trained) -> None:
    picture("photos/gray.png", 20, 24, "L")
    picture("photos/clear.png", 20, 24, "RGBA")
    transparent = Image.open("photos/clear.png")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    transparent.save("photos/clear.png")
    picture("photos/print.jpg", 20, 24, "CMYK")
    picture("photos/few.png", 20, 24, "P")
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
@pytest.mark.parametrize("content", [b"", b"not a picture\n"])
def test_a_file_that_is_no_picture_is_named_in_one_line(content: bytes, place: str, trained, capsys) -> None:
    picture("photos/m.jpg", 20, 20)
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
    "..dots..",
    "back\\slash",
]


def test_a_name_of_any_characters_is_linked_and_injects_nothing(trained) -> None:
    for name in HOSTILE:
        picture(f"photos/{name}.png", 20, 20)
        picture(f"photos/sub #{name}/1.png", 20, 20)
    strange = "no text \udcff"  # bytes that are no UTF-8
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
    # and the next call finds them all again
    picture("photo.png", 20, 20)
    photos[1] = "data.root=photo.png"
    assert main(["test", "run=checkpoints/cyclegan", *photos]) == 0
    assert files("<i>my results") == expected({KINDS_A: ["photo"]})


# ---- bare weights


@pytest.mark.parametrize(("mode", "scale"), [("eval", 1), ("train", 2)])
@pytest.mark.parametrize(
    ("network", "norm"), [("resnet", "instance"), ("resnet", "batch"), ("unet", "batch"), ("unet", "instance")]
)
def test_bare_weights_compute_what_they_computed_where_they_come_from(
    network: str, norm: str, mode: str, scale: int
) -> None:
    state = weights_file("latest_net_G.pth", network, norm, inputs=2, outputs=3)
    Path("arrays").mkdir()
    torch.manual_seed(1)
    images = {name: torch.rand(1, 2, 64, 32) * 2 - 1 for name in ("one", "two")}
    for name, image in images.items():
        np.save(f"arrays/{name}.npy", image[0].permute(1, 2, 0).numpy() * scale)
    stored = f"data.range=[{-scale},{scale}]"
    arrays = ["data=single", "data.root=arrays", stored, f"network_mode={mode}", "dropout=0"]
    assert main(["test", "weights=latest_net_G.pth", *arrays, "accelerator=cpu"]) == 0
    results = Path("results/latest_net_G")
    by_kind = [f"{kind}/{name}.npy" for kind in ("fake_b", "real_a") for name in ("one", "two")]
    shown = [f"shown/{kind}/{name}.png" for kind in ("fake_b", "real_a") for name in ("one", "two")]
    assert files(results) == by_kind + shown
    assert linked(results) == shown
    for name, image in images.items():
        if network == "resnet":
            wanted = resnet_by_hand(state, image, blocks=2, training=mode == "train")
        else:
            wanted = unet_by_hand(state, image, training=mode == "train")
        fake, real = (np.load(results / f"{kind}/{name}.npy") for kind in ("fake_b", "real_a"))
        assert fake.dtype == real.dtype == np.float32
        assert wanted.std() > 0.05
        # and in the scale of the data
        for made, values in ((fake, wanted), (real, image)):
            found = torch.from_numpy(made).permute(2, 0, 1)[None] / scale
            torch.testing.assert_close(found, values, atol=1e-5, rtol=0)


def test_the_dropout_of_a_bare_unet_is_half_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    sizes = {"input_shape": (3, 64, 64), "shape": (3, 64, 64)}
    torch.save(UNetGenerator(**sizes, **DEEP | {"depth": 6}, norm="batch").state_dict(), "G.pth")
    picture("photo.png", 64, 64)
    photo = ["test", "weights=G.pth", "data=single", "data.root=photo.png", "accelerator=cpu"]
    made = {}
    for how in ([], ["dropout=0.5"], ["dropout=0"], ["dropout=0", "network_mode=eval"], ["network_mode=eval"]):
        assert main([*photo, *how]) == 0
        made[" ".join(how)] = bits("results/G")["fake_b/photo.png"]
    assert made[""] == made["dropout=0.5"]
    assert made["network_mode=eval"] == made["dropout=0 network_mode=eval"]
    assert len(set(made.values())) == 3


def test_bare_weights_take_the_other_direction_and_other_data() -> None:
    layout(Path("made"), testA=2, testB=3)
    weights_file("monet.pth", "resnet", "instance")
    test = ["test", "weights=monet.pth", "accelerator=cpu"]
    unaligned = ["data=unaligned", "data.root=made", "data.crop_size=32", "data.load_size=32"]
    assert main([*test, *unaligned, "direction=b_to_a", "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({("real_b", "fake_a"): ["n66_0", "n66_1", "n66_2"]})
    assert np.array_equal(pixels("mine/real_b/n66_1.png"), pixels("made/testB/n66_1.jpg"))
    assert main([*test, *unaligned]) == 0
    assert files("results/monet") == expected({("real_a", "fake_b"): ["n65_0", "n65_1"]})
    fakes = bits("mine")["fake_a/n66_1.png"]
    # as a picture of its own it is made the same
    assert main([*test, "data=single", "data.root=made/testB/n66_1.jpg", "out=one"]) == 0
    assert bits("one")["fake_b/n66_1.png"] == fakes
    # and so is it from Python
    made = gantrain.load("monet.pth").translate(unit("made/testB/n66_1.jpg").float())
    assert np.abs(pixels("one/fake_b/n66_1.png").astype(int) - rounded(made)).max() <= 1


def test_bare_weights_of_unlike_channels_say_what_the_data_is_read_as() -> None:
    weights_file("colour.pth", "unet", "batch", inputs=1, outputs=3)
    picture("pairs/test/1.png", 32, 64)
    pairs = ["data=aligned", "data.root=pairs", "data.load_size=32", "data.crop_size=32", "accelerator=cpu"]
    assert main(["test", "weights=colour.pth", *pairs, "data.direction=b_to_a", "out=mine"]) == 0
    assert [Image.open(f"mine/{kind}/1.png").mode for kind in ("real_a", "fake_b", "real_b")] == ["L", "RGB", "RGB"]
    right = Image.open("pairs/test/1.png").crop((32, 0, 64, 32)).convert("L")
    assert np.abs(pixels("mine/real_a/1.png").astype(int) - np.asarray(right)).max() <= 1
    assert "mean absolute error, a_to_b" in Path("mine/index.html").read_text()
    single = ["data=single", "data.root=pairs", "accelerator=cpu", "direction=b_to_a"]
    assert main(["test", "weights=colour.pth", *single, "out=back"]) == 0
    assert [Image.open(f"back/{kind}/test/1.png").mode for kind in ("real_b", "fake_a")] == ["L", "RGB"]


def test_what_is_no_bare_generator_is_refused_in_one_line(trained, capsys) -> None:
    run = trained("cyclegan")
    picture("photo.png", 32, 32)
    data = ["data=single", "data.root=photo.png"]
    judge = PatchGANDiscriminator(
        shape=(3, 32, 32), num_classes=0, num_outputs=1, width=2, layers=3, norm="batch", **INIT
    )
    torch.save(judge.state_dict(), "latest_net_D.pth")
    Path("text.pth").write_text("hello\n")
    weights_file("G.pth", "resnet", "instance")
    for weights, said in {
        "latest_net_D.pth": "latest_net_D.pth holds a discriminator, which translates nothing: give the generator's",
        "text.pth": "can't read text.pth: it is not a PyTorch file of weights",
        f"{run}/step_2.pt": "give run=checkpoints/cyclegan instead",
        "nowhere.pth": "can't read nowhere.pth: No such file",
    }.items():
        assert said in refused(capsys, "test", f"weights={weights}", *data)
    assert "run is missing: give run=" in refused(capsys, "test", *data)
    assert "exclude each other" in refused(capsys, "test", f"run={run}", "weights=G.pth", *data)
    assert "data=single data.root=FOLDER" in refused(capsys, "test", "weights=G.pth")
    assert "step=2 is for run=" in refused(capsys, "test", "weights=G.pth", *data, "step=2")
    assert "network_weights=last is for run=" in refused(capsys, "test", "weights=G.pth", *data, "network_weights=last")
    assert not Path("results").exists()


# ---- colorization


def test_colorization_learns_from_colour_and_is_tested_on_gray_and_colour() -> None:
    for number in range(3):
        picture(f"colour/{number}.png", 40, 40)
    command = ["model=colorization", "data=single", "data.root=colour", *COLOUR]
    assert main(["train", *command, *CPU, "name=run", "trainer.steps=2"]) == 0
    picture("photos/gray.png", 33, 47, "L")
    picture("photos/colour.png", 40, 32)
    photos = ["data=single", "data.root=photos", "out=mine", "accelerator=cpu"]
    assert main(["test", "run=checkpoints/run", *photos]) == 0
    assert files("mine") == linked("mine") == expected({("real_a", "fake_b_rgb", "real_b_rgb"): ["colour", "gray"]})
    gray = np.asarray(Image.open("photos/gray.png").convert("RGB")).astype(int)
    assert np.array_equal(pixels("mine/real_b_rgb/gray.png"), gray)
    assert np.abs(pixels("mine/real_a/gray.png") - gray).max() <= 2  # its own lightness is all there is of it
    assert np.array_equal(pixels("mine/real_b_rgb/colour.png"), pixels("photos/colour.png"))
    lightness = pixels("mine/real_a/colour.png").astype(int)
    assert np.ptp(lightness, axis=2).max() <= 2
    assert np.ptp(lightness) > 50
    assert np.ptp(pixels("mine/fake_b_rgb/gray.png").astype(int), axis=2).max() > 2  # now it has colour


def test_a_bare_generator_of_colorization_shows_what_its_run_shows() -> None:
    for name, mode in (("gray", "L"), ("colour", "RGB")):
        picture(f"photos/{name}.png", 33, 47, mode)
    state = weights_file("latest_net_G.pth", "unet", "batch", inputs=1, outputs=2)
    photos = ["data=single", "data.root=photos", "accelerator=cpu", "out=mine"]
    assert main(["test", "weights=latest_net_G.pth", *photos, "dropout=0"]) == 0
    assert files("mine") == linked("mine") == expected({("real_a", "fake_b_rgb", "real_b_rgb"): ["colour", "gray"]})
    assert np.array_equal(pixels("mine/real_b_rgb/colour.png"), pixels("photos/colour.png"))
    assert np.ptp(pixels("mine/real_a/colour.png").astype(int), axis=2).max() <= 2
    lab = rgb_to_lab(unit("photos/gray.png").float().expand(-1, 3, -1, -1))
    padded = torch.from_numpy(np.pad(lab.numpy(), ((0, 0), (0, 0), (0, 31), (0, 17)), mode="symmetric"))
    colour = unet_by_hand(state, padded[:, :1] / 50 - 1, training=True)[..., :33, :47]
    wanted = rounded(lab_to_rgb(torch.cat([lab[:, :1], colour * 110], dim=1)))
    assert np.abs(pixels("mine/fake_b_rgb/gray.png").astype(int) - wanted).max() <= 1
    assert "real_a is the input, fake_b_rgb the output, real_b_rgb the target" in Path("mine/index.html").read_text()


def test_a_bare_generator_of_colorization_goes_one_way(capsys) -> None:
    picture("photos/1.png", 32, 32)
    layout(Path("made"), testA=1, testB=1)
    weights_file("G.pth", "unet", "batch", inputs=1, outputs=2)
    test = ["test", "weights=G.pth", "accelerator=cpu"]
    said = refused(capsys, *test, "data=single", "data.root=photos", "direction=b_to_a")
    assert "knows only a_to_b" in said
    assert "takes plain pictures" in refused(capsys, *test, "data=unaligned", "data.root=made")


# ---- commands that don't fit


def test_commands_that_do_not_fit_are_refused_with_the_remedy(trained, capsys) -> None:
    run, pairs = trained("cyclegan"), trained("pix2pix")
    test = ["test", f"run={run}", "accelerator=cpu"]
    assert "direction: expected one of 'a_to_b', 'b_to_a' or null, got 'a2b'" in refused(capsys, *test, "direction=a2b")
    assert "valA + valB" in refused(capsys, *test, "phase=val")
    assert "labels=[1]: this model translates images, which have none" in refused(capsys, *test, "labels=[1]")
    assert "network_mode=eval turns it off" in refused(capsys, *test, "dropout=0.2")
    assert "knows only a_to_b" in refused(capsys, "test", f"run={pairs}", "direction=b_to_a")
    assert "data=single data.root=FOLDER, which converts" in refused(capsys, *test, "data=digits")
    layout(Path("halves"), testB=2, trainA=1, trainB=1)
    assert "testA + testB" in refused(capsys, *test, "data=unaligned", "data.root=halves")
    assert "there is no folder nowhere" in refused(capsys, *test, "data=single", "data.root=nowhere")
    assert "no picture matches" in refused(capsys, *test, "data=single", "data.root=halves/*.png")
    assert not any((each / "results").exists() for each in (run, pairs))


def test_other_kinds_of_models_are_told_apart(capsys) -> None:
    assert main(["train", "data.load_size=16", "network.width=2", *CPU, "trainer.steps=1", "name=noise"]) == 0
    said = refused(capsys, "test", "run=checkpoints/noise", "direction=a_to_b")
    assert "direction=a_to_b: DCGAN makes images from noise" in said
    picture("colour/1.png", 40, 40)
    layout(Path("made"), testA=1, testB=1)
    command = ["model=colorization", "data=single", "data.root=colour", *COLOUR]
    assert main(["train", *command, *CPU, "name=run", "trainer.steps=1"]) == 0
    said = refused(capsys, "test", "run=checkpoints/run", "data=unaligned", "data.root=made")
    assert "data=single data.root=FOLDER" in said
    assert "knows only a_to_b" in refused(capsys, "test", "run=checkpoints/run", "direction=b_to_a")


def test_pictures_without_names_are_numbered() -> None:
    for folder in ("trainA", "trainB"):
        picture(f"made/{folder}/1.png", 32, 32, "L")
    command = ["model=cyclegan", "data=unaligned", "data.root=made", "data.channels=1", *SIZES, *RESNET]
    assert main(["train", *command, "name=run", "trainer.steps=1"]) == 0
    digits = ["data=digits", "data.load_size=32", "num=3", "batch_size=2", "direction=a_to_b", "accelerator=cpu"]
    assert main(["test", "run=checkpoints/run", *digits, "out=mine"]) == 0
    assert files("mine") == linked("mine") == expected({KINDS_A: ["00000", "00001", "00002"]})
