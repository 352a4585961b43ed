"""Bare weights of pytorch-CycleGAN-and-pix2pix: the keys define the architecture; other files are refused."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions
from network_checks import REFERENCE
from tiny_keys import RESNET_KEYS, UNET_KEYS
from torch import Tensor, nn

from gantrain.checkpoints.reference_weights import read_reference
from gantrain.errors import ConfigError
from gantrain.networks.patchgan import PatchGANDiscriminator, PixelGANDiscriminator
from gantrain.networks.resnet import ResnetGenerator
from gantrain.networks.unet import UNetGenerator

INIT = {"init": "normal", "init_gain": 0.02}
ONE = {"scales": 1, "antialias": False}
RESNET = {**RESNET_KEYS, **INIT, "width": 3, "blocks": 2}
UNET = {**UNET_KEYS, **INIT, "width": 2, "depth": 5, "dropout": 0.5, "norm": "batch"}
PATH = Path("latest_net_G.pth")


def config_of(entry: str) -> tuple[str, dict[str, Any]]:
    """The side and the configuration of an entry, from its name alone."""
    words = dict(word.split("=") for word in entry.split() if "=" in word)
    ends = {"norm": words["norm"], **INIT}
    if words.get("netG", "").startswith("resnet"):
        dropout = 0.5 if words["dropout"] == "True" else 0.0
        blocks = int(words["netG"][len("resnet_")])
        return "generator", {"name": "resnet", **RESNET, "width": 64, "blocks": blocks, "dropout": dropout, **ends}
    if "netG" in words:
        depth = {"unet_128": 7, "unet_256": 8}[words["netG"]]
        return "generator", {"name": "unet", **UNET, "width": 64, "depth": depth, **ends}
    if words["netD"] == "pixel":
        return "discriminator", {"name": "pixelgan", "width": 64, **ends}
    own = {"width": 64, "layers": int(words["n_layers_D"]), "scales": 1, "norm": words["norm"], "antialias": False}
    return "discriminator", {"name": "patchgan", **own, **INIT}


def saved(state: dict[str, Tensor], *, prefix: str = "", **options: Any) -> Path:
    torch.save(OrderedDict((prefix + key, value) for key, value in state.items()), PATH, **options)
    return PATH


def with_old_statistics(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The format before PyTorch 0.4, when instance norm stored statistics without weights."""
    old = dict(state)
    for name, module in network.named_modules():
        if isinstance(module, nn.InstanceNorm2d):
            channels = module.num_features
            old |= {f"{name}.running_mean": torch.zeros(channels), f"{name}.running_var": torch.ones(channels)}
            old[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return old


def shaken(network: nn.Module) -> nn.Module:
    """Fill the state with values that no constructor creates."""
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.rand(value.shape) * 3)
    return network.eval()


# ---- loading


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("entry", REFERENCE)
def test_every_network_of_the_reference_is_recognised_and_loads(entry: str, prefix: str) -> None:
    # one number per tensor, expanded: a file of a few kilobytes instead of 200 megabytes
    numbers = torch.rand(len(REFERENCE[entry]))
    state = {key: number.expand(shape) for (key, shape), number in zip(REFERENCE[entry].items(), numbers, strict=True)}
    network = read_reference(saved(state, prefix=prefix))
    side, config = config_of(entry)
    assert (network.side, network.config) == (side, config)
    assert list(network.config) == list(config)  # In the order of the constructor.
    assert (network.channels_in, network.channels_out) == (3, 3 if side == "generator" else 1)
    with torch.device("meta"):
        module = network.build(256, 256)
    module.load_state_dict(network.state, strict=True, assign=True)
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), key


SIZES = {"input_shape": (3, 32, 32), "shape": (2, 32, 32)}
JUDGED = {"shape": (5, 32, 32)}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResnetGenerator(**SIZES, **RESNET),
    "resnet, one halving": lambda: ResnetGenerator(**SIZES, **RESNET | {"downsamplings": 1, "norm": "batch"}),
    "resnet, none": lambda: ResnetGenerator(**SIZES, **RESNET | {"downsamplings": 0, "blocks": 1, "stem": 3}),
    "resnet, even": lambda: ResnetGenerator(**SIZES, **RESNET | {"kernel": 4, "downsamplings": 3, "norm": "none"}),
    "resnet, zeros": lambda: ResnetGenerator(**SIZES, **RESNET | {"padding": "zero"}),
    "resnet, noise": lambda: ResnetGenerator(**SIZES, **RESNET | {"padding": "zero", "dropout": 0.5, "norm": "batch"}),
    "unet": lambda: UNetGenerator(**SIZES, **UNET),
    "unet, instance": lambda: UNetGenerator(**SIZES, **UNET | {"norm": "instance"}),
    "unet, none": lambda: UNetGenerator(**SIZES, **UNET | {"norm": "none"}),
    "patchgan": lambda: PatchGANDiscriminator(**JUDGED, **ONE, width=3, layers=3, norm="instance", **INIT),
    "resnet, smooth": lambda: ResnetGenerator(**SIZES, **RESNET | {"antialias": True}),
    "patchgan, smooth": lambda: PatchGANDiscriminator(
        **JUDGED, **ONE | {"antialias": True}, width=3, layers=3, norm="instance", **INIT
    ),
    "patchgan, one": lambda: PatchGANDiscriminator(**JUDGED, **ONE, width=3, layers=1, norm="batch", **INIT),
    "patchgan, none": lambda: PatchGANDiscriminator(**JUDGED, **ONE, width=9, layers=2, norm="none", **INIT),
    "pixelgan": lambda: PixelGANDiscriminator(**JUDGED, width=3, norm="instance", **INIT),
    "pixelgan, batch": lambda: PixelGANDiscriminator(**JUDGED, width=3, norm="batch", **INIT),
    "pixelgan, none": lambda: PixelGANDiscriminator(**JUDGED, width=3, norm="none", **INIT),
}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_loaded_network_computes_the_same_as_the_saved_one(name: str, prefix: str) -> None:
    torch.manual_seed(0)
    network = shaken(NETWORKS[name]())
    legacy = prefix == "module."  # before PyTorch 1.6, a file was no archive
    old = with_old_statistics(network.state_dict(), network)
    found = read_reference(saved(old, prefix=prefix, _use_new_zipfile_serialization=not legacy))
    module = found.build(32, 32)
    module.load_state_dict(found.state, strict=True)
    image = torch.randn(1, found.channels_in, 32, 32)
    assert found.channels_in == (3 if found.side == "generator" else 5)
    assert found.channels_out == (2 if found.side == "generator" else 1)
    torch.testing.assert_close(module.eval()(image), network(image), atol=0, rtol=0)


def test_statistics_are_dropped_for_instance_norm_but_not_for_batch_norm() -> None:
    instance, batch = NETWORKS["patchgan"](), NETWORKS["unet"]()
    old = with_old_statistics(instance.state_dict(), instance)
    assert len(old) == len(instance.state_dict()) + 9
    assert read_reference(saved(old)).state.keys() == instance.state_dict().keys()
    # batch norm did not count its batches before PyTorch 0.4.1
    uncounted = {key: value for key, value in batch.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = read_reference(saved(uncounted)).state
    assert list(state) == list(batch.state_dict())
    for key, value in batch.state_dict().items():
        assert torch.equal(state[key], value), key


def test_dropout_is_given_for_a_unet_and_inferred_for_a_resnet() -> None:
    path = saved(NETWORKS["unet"]().state_dict())
    assert read_reference(path).config["dropout"] == 0.5
    assert read_reference(path, dropout=0.0).config["dropout"] == 0.0
    path = saved(NETWORKS["resnet"]().state_dict())
    assert read_reference(path, dropout=0.7).config["dropout"] == 0.0
    path = saved(NETWORKS["resnet, noise"]().state_dict())
    assert read_reference(path, dropout=0.0).config["dropout"] == 0.5


def test_padding_is_inferred_from_the_indices_of_the_convolutions() -> None:
    padding = {}
    for name in ("resnet", "resnet, zeros", "resnet, noise"):
        padding[name] = read_reference(saved(NETWORKS[name]().state_dict())).config["padding"]
    assert padding == {"resnet": "reflection", "resnet, zeros": "zero", "resnet, noise": "zero"}


# ---- refusals


class Malicious:
    """Creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("got in",)


PATH_AND_CODE = ["latest_net_G.pth", "code", "never run", "state_dict()"]
PATH_AND_CORRUPT = ["can't read latest_net_G.pth", "not a PyTorch file", "corrupt"]
PATH_AND_FORMAT = ["latest_net_G.pth", "no network of pytorch-CycleGAN-and-pix2pix"]


def refusal(path: Path = PATH) -> str:
    with pytest.raises(ConfigError) as refused:
        read_reference(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("content", [{"model.0.weight": Malicious()}, Malicious(), nn.Linear(2, 2)])
def test_pickled_code_is_refused_and_not_run(content: Any) -> None:
    torch.save(content, PATH)
    assert_mentions(refusal(), *PATH_AND_CODE)
    torch.save(content, PATH, _use_new_zipfile_serialization=False)
    assert_mentions(refusal(), *PATH_AND_CODE)
    PATH.write_bytes(pickle.dumps(content, protocol=2))
    assert_mentions(refusal(), *PATH_AND_CODE)
    assert not Path("got in").exists()
    pickle.loads(pickle.dumps(Malicious()))  # Trusted, the pickle does run.
    assert Path("got in").exists()


def test_a_file_that_is_not_pytorchs_is_refused() -> None:
    for content in (b"", b"PK", b"some text\n", bytes(300), b"PK\x03\x04" + bytes(300)):
        PATH.write_bytes(content)
        assert_mentions(refusal(), *PATH_AND_CORRUPT)
    whole = saved(NETWORKS["resnet"]().state_dict()).read_bytes()
    PATH.write_bytes(whole[: len(whole) // 2])
    assert_mentions(refusal(), *PATH_AND_CORRUPT)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_corrupt_file_is_loaded_or_refused_in_one_line(legacy: bool) -> None:
    whole = saved(NETWORKS["pixelgan"]().state_dict(), _use_new_zipfile_serialization=not legacy).read_bytes()
    refusals = []
    for place in range(2, min(len(whole), 1500), 19):
        PATH.write_bytes(whole[:place] + b"*" + whole[place + 1 :])
        try:
            read_reference(PATH)
        except ConfigError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert not any("\n" in refusal for refusal in refusals)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert_mentions(refusal(Path("nowhere.pth")), "can't read nowhere.pth", "No such file")
    assert_mentions(refusal(tmp_path), f"can't read {tmp_path}", "Is a directory")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "dictionary of length 0"),
        (
            {"optimizer": {}, "model": {"model.1.weight": torch.zeros(1)}, "epoch": 3, "lr": 0.1},
            "dictionary of length 4 (first: 'optimizer', 'model', 'epoch')",
        ),
        ({"conv1.weight": torch.zeros(8, 3, 3, 3)}, "dictionary of length 1 (first: 'conv1.weight')"),
        ({0: torch.zeros(1)}, "dictionary of length 1 (first: 0)"),
        ({"model.0.weight": torch.zeros(4, 4)}, "dictionary of length 1 (first: 'model.0.weight')"),
        ([torch.zeros(1)], "of type list"),
        (torch.zeros(3), "of type Tensor"),
    ],
)
def test_a_file_without_a_network_is_refused_with_its_contents(content: Any, text: str) -> None:
    torch.save(content, PATH)
    assert_mentions(refusal(), *PATH_AND_FORMAT, text)


def test_a_checkpoint_of_gantrain_is_refused_with_the_run_option() -> None:
    path = Path("checkpoints/mine/step_3.pt")
    path.parent.mkdir(parents=True)
    torch.save({"format": 1, "step": 3, "model": {}}, path)
    assert_mentions(refusal(path), "checkpoints/mine/step_3.pt", "not bare weights", "give run=checkpoints/mine")


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        (
            "resnet",
            {"model.10.conv_block.5.bias": None},
            "resnet, but model.10.conv_block.5.bias is missing and should be (12,)",
        ),
        (
            "unet",
            {"model.model.1.model.6.weight": torch.ones(7)},
            "unet, but model.model.1.model.6.weight is (7,) and should be (2,)",
        ),
        (
            "patchgan",
            {"model.12.filter": torch.zeros(3, 3)},
            "patchgan, but model.12.filter is (3, 3) and should be missing",
        ),
        (
            "pixelgan",
            {"net.5.weight": torch.zeros(4, 6, 1, 1)},
            "pixelgan, but net.5.weight is (4, 6, 1, 1) and should be (1, 6, 1, 1)",
        ),
    ],
)
def test_a_similar_network_is_refused_with_its_first_key_that_differs(
    name: str, change: dict[str, Tensor | None], text: str
) -> None:
    state = NETWORKS[name]().state_dict() | change
    saved({key: value for key, value in state.items() if value is not None})
    assert_mentions(refusal(), *PATH_AND_FORMAT, text)


def test_a_unet_too_shallow_for_the_reference_is_refused() -> None:
    state = {}
    for key, value in NETWORKS["unet"]().state_dict().items():
        if not key.startswith("model.model.1.model.3.model.3.model.3.model."):
            state[key] = value
    saved(state)
    assert_mentions(refusal(), *PATH_AND_FORMAT, "network.generator.depth", "at least 5", "got 4")
