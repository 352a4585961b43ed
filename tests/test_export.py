"""``gantrain export``: every format from a run, the lines that use it, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import assert_mentions
from PIL import Image
from translated import image, refused

import gantrain
from gantrain.cli.main import main
from gantrain.exports.pt2 import Pt2Format
from gantrain.exports.source import Source
from gantrain.registry import MODELS

ROOT = Path(__file__).parent.parent


def export(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], str]:
    """What the command prints on stdout, in lines, and on stderr."""
    capsys.readouterr()
    assert main(["export", *words]) == 0
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err


@pytest.mark.parametrize(
    ("model", "words", "name"),
    [
        ("pix2pix", ["format=onnx", "pixels=uint8", "half=true", "opset=18"], "pix2pix.onnx"),
        ("cgan", ["format=onnx"], "cgan.onnx"),
        ("pix2pix", ["format=pt2", "network_mode=eval"], "pix2pix.pt2"),
    ],
)
def test_the_printed_lines_make_an_image(model: str, words: list[str], name: str, trained, capsys) -> None:
    run = trained(model)
    lines, about = export(capsys, f"run={run}", *words)
    assert_mentions(about, run / "exports" / name, "grey levels", *(["dropout is off"] if model == "pix2pix" else []))
    assert 4 <= len(lines) <= 7
    image("photo.png", 45, 37)
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    with Image.open("output.png") as made:
        assert made.size == ((37, 45) if model == "pix2pix" else (16, 16))
        assert np.asarray(made).std() > 0.1
    assert [path.name for path in (run / "exports").iterdir()] == [name]


@pytest.mark.parametrize("form", ["safetensors", "hub"])
def test_the_printed_lines_load_the_model(form: str, trained, capsys) -> None:
    image("photo.png", 45, 37)
    for model in ("sgan", "cyclegan"):
        lines, _ = export(capsys, f"run={trained(model)}", f"format={form}")
        scope: dict[str, Any] = {}
        exec("\n".join(lines), scope)
        assert 3 <= len(lines) <= 5
    assert scope["gan"].directions == ("a_to_b", "b_to_a")
    assert Image.open("output.png").size == (37, 45)


def test_each_direction_is_a_file(trained, capsys, monkeypatch) -> None:
    run = trained("cyclegan")
    message = refused(capsys, "export", f"run={run}", "format=onnx", "out=one.onnx")
    assert_mentions(message, "out=one.onnx", "direction=a_to_b")
    monkeypatch.setattr(Pt2Format, "write", lambda _, sources, path: path.write_text(sources[0].direction))
    monkeypatch.setattr(Pt2Format, "difference", lambda *_: 0.0)
    export(capsys, f"run={run}", "format=pt2")
    written = {path.name: path.read_text() for path in (run / "exports").iterdir()}
    assert written == {f"cyclegan_{direction}.pt2": direction for direction in ("a_to_b", "b_to_a")}
    export(capsys, f"run={run}", "format=pt2", "direction=b_to_a", "out=one.pt2")
    assert Path("one.pt2").read_text() == "b_to_a"


def test_nothing_is_replaced_unless_it_is_wanted(trained, capsys) -> None:
    run = trained("dcgan")
    for form, out in (("safetensors", Path("x.safetensors")), ("hub", Path("x"))):
        export(capsys, f"run={run}", f"format={form}", f"out={out}")
        files = [out] if out.is_file() else sorted(out.iterdir())
        before = [path.read_bytes() for path in files]
        message = refused(capsys, "export", f"run={run}", f"format={form}", f"out={out}", "half=true")
        assert_mentions(message, out, "overwrite=true")
        assert [path.read_bytes() for path in files] == before
        export(capsys, f"run={run}", f"format={form}", f"out={out}", "half=true", "overwrite=true")
        assert [path.read_bytes() for path in files] != before
    assert sorted(path.name for path in Path().iterdir()) == ["checkpoints", "x", "x.safetensors"]


def test_a_folder_is_complete_as_soon_as_it_appears(trained, monkeypatch) -> None:
    run = trained("dcgan")
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )  # As if killed while it is moved.
        assert main(["export", f"run={run}", "format=hub"]) == 130
    assert not (run / "exports/dcgan_hub").exists()
    assert main(["export", f"run={run}", "format=hub"]) == 0


def test_a_file_that_differs_is_not_kept(trained, capsys, monkeypatch) -> None:
    run = trained("dcgan")
    wanted = Source.expected
    monkeypatch.setattr(Source, "expected", lambda *inputs: wanted(*inputs) + 1.5 / 127.5)
    for form in ("onnx", "hub"):
        if form == "hub":
            monkeypatch.setattr("gantrain.exports.hub.largest_difference", lambda *_: float("nan"))
        message = refused(capsys, "export", f"run={run}", f"format={form}")
        assert_mentions(message, f"dcgan{'_hub' if form == 'hub' else '.onnx'}", "1.5" if form == "onnx" else "nan")
        assert not any((run / "exports").iterdir())
    export(capsys, f"run={run}", "format=onnx", "half=true")  # It allows 2 grey levels.


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["format", "onnx", "hub"]),
        (["format=jpeg"], ["format", "jpeg", "onnx"]),
        (["format=onnx", "opset=17"], ["opset", "17", "18"]),
        (["format=onnx", "out=x.pth"], ["out=x.pth", ".onnx"]),
        (["format=hub", "opset=20"], ["opset=20", "no effect", "onnx"]),
        (["format=onnx", "licence=mit"], ["licence=mit", "no effect", "hub"]),
        (["format=onnx", "direction=a_to_b"], ["direction=a_to_b", "noise"]),
        (["format=reference"], ["format=reference", "dcgan", "resnet and unet"]),
        (["format=hub", "to=github"], ["to=github", "hf:USER/NAME"]),
        (["format=onnx", "step=7"], ["step 7"]),
    ],
)
def test_a_mistake_is_one_line(words: list[str], parts: list[str], trained, capsys) -> None:
    assert_mentions(refused(capsys, "export", f"run={trained('dcgan')}", *words), *parts)
    assert not Path("checkpoints/dcgan/exports").exists() or not any(Path("checkpoints/dcgan/exports").iterdir())


def test_a_run_is_needed(capsys) -> None:
    assert_mentions(refused(capsys, "export", "format=onnx"), "run=checkpoints/NAME")


def test_a_missing_library_is_one_line(trained, capsys, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("gantrain.config.extras.find_spec", lambda name: None if name == "onnxruntime" else find(name))
    message = refused(capsys, "export", f"run={trained('dcgan')}", "format=onnx")
    assert_mentions(message, "format=onnx", "onnxruntime", "pip install 'gantrain[export]'")


def test_images_of_other_depths_are_not_made_eight_bit(trained, capsys, monkeypatch) -> None:
    run = trained("dcgan")
    monkeypatch.setattr(Source, "is_8_bit", False)
    assert_mentions(
        refused(capsys, "export", f"run={run}", "format=onnx", "pixels=uint8"), "pixels=uint8", "pixels=float"
    )


# ---- the hub


def test_the_model_card_describes_the_run(trained, capsys) -> None:
    run = trained("pix2pix")
    metric = '{"step": 1, "fid": 12.5, "protocol": "inception | 50 images"}\n{"step": 9, "fid": 1.0, "protocol": "x"}\n'
    (run / "metrics.jsonl").write_text(metric)
    export(capsys, f"run={run}", "format=hub", "licence=cc-by-4.0")
    folder = run / "exports/pix2pix_hub"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    card = (folder / "README.md").read_text()
    head = card.split("---")[1].strip().splitlines()
    assert head == [
        "library_name: gantrain",
        "pipeline_tag: image-to-image",
        'tags: [gan, "pix2pix"]',
        'license: "cc-by-4.0"',
    ]
    assert "| fid | 12.5 | inception \\| 50 images |" in card
    assert "| held\\_out\\_l1 |" in card
    assert "| 1 |" not in card
    assert "gantrain train data=facades" in card
    assert "![What the model makes](samples.png)" in card
    assert Image.open(folder / "samples.png").size > (32, 32)
    assert gantrain.load(shutil.copytree(folder, "elsewhere")).directions == ("a_to_b",)


def test_a_folder_is_uploaded_where_huggingface_hub_is(trained, capsys, monkeypatch) -> None:
    run = trained("dcgan")
    calls: list[tuple[str, dict[str, Any]]] = []
    api = SimpleNamespace(
        create_repo=lambda name, **options: calls.append((name, options)),
        upload_folder=lambda **options: calls.append((options["repo_id"], options)),
    )
    monkeypatch.setattr("gantrain.config.extras.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=lambda: api))
    _, about = export(capsys, f"run={run}", "format=hub", "to=hf:me/dcgan")
    assert "https://huggingface.co/me/dcgan" in about
    assert [name for name, _ in calls] == ["me/dcgan", "me/dcgan"]
    assert Path(calls[1][1]["folder_path"]) == run / "exports/dcgan_hub"
    assert set(calls[1][1]["allow_patterns"]) == {path.name for path in (run / "exports/dcgan_hub").iterdir()}

    def fail(**_: Any) -> None:
        raise RuntimeError("401 Client Error\nmore")

    api.upload_folder = fail
    assert main(["export", f"run={run}", "format=hub", "to=hf:me/dcgan", "overwrite=true"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert_mentions(message, "to hf:me/dcgan", "401 Client Error", "login")


def test_torch_hub_loads_a_run_by_the_name_of_its_model(trained) -> None:
    run = trained("dcgan")
    scope = runpy.run_path(str(ROOT / "hubconf.py"))
    assert sorted(name for name, entry in scope.items() if name[0] != "_" and name in MODELS and entry.__doc__) == list(
        MODELS
    )
    model = torch.hub.load(str(ROOT), "dcgan", source="local", run=str(run))
    latents = model.latents(2, seed=0)
    assert torch.equal(model.sample(latents), gantrain.load(run).sample(latents))
    with pytest.raises(gantrain.errors.ConfigError, match="dcgan, not cyclegan"):
        torch.hub.load(str(ROOT), "cyclegan", source="local", run=str(run))
