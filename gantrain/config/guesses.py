"""What people type first, from other tools, and what they mean here: the one table of such suggestions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

SIZE = "data.load_size=64 (and data.crop_size, where the data has it)"
ACCELERATOR = "trainer.accelerator=cuda, cpu or mps, or trainer=gpu"
RESUME = "resume=checkpoints/NAME, or the same command again, which resumes"
FOLDER = "data=single data.root=FOLDER (pairs: data=aligned; two domains: data=unaligned)"
RUN = "name=NAME for the folder of the run, checkpoints_dir=FOLDER for that of all runs"

TRAIN = {
    **dict.fromkeys(["lr", "learning_rate", "optimizer.learning_rate", "model.lr", "trainer.lr"], "optimizer.lr=2e-4"),
    **dict.fromkeys(["lr_d", "d_lr", "discriminator_lr"], "optimizer.discriminator_lr=2e-4"),
    **dict.fromkeys(["beta1", "beta2", "betas", "optimizer.beta1"], "optimizer.betas=[0.5,0.999]"),
    **dict.fromkeys(["steps", "iterations", "iters", "max_steps", "trainer.max_steps"], "trainer.steps=3000"),
    **dict.fromkeys(["epochs", "n_epochs", "num_epochs", "max_epochs", "trainer.max_epochs"], "trainer.epochs=100"),
    "kimg": "trainer.kimg=1000",
    **dict.fromkeys(["batch_size", "batch", "bs", "trainer.batch_size"], "data.batch_size=32"),
    **dict.fromkeys(["workers", "num_workers", "num_threads", "trainer.num_workers"], "data.num_workers=2"),
    **dict.fromkeys(["data.size", "data.image_size", "data.img_size", "data.resolution"], SIZE),
    **dict.fromkeys(["size", "image_size", "img_size", "resolution", "load_size", "crop_size"], SIZE),
    **dict.fromkeys(["device", "accelerator", "cuda", "gpu", "trainer.device"], ACCELERATOR),
    **dict.fromkeys(
        ["gpus", "gpu_ids", "devices", "num_gpus", "trainer.gpus", "trainer.gpu_ids"],
        "trainer.devices=2, one process per GPU",
    ),
    **dict.fromkeys(["precision", "amp", "fp16", "bf16", "half"], "trainer.precision=bfloat16"),
    **dict.fromkeys(["dataroot", "data_root", "root", "data_dir", "data.path", "data.dir", "dataset"], FOLDER),
    **dict.fromkeys(["width", "ngf", "ndf", "nf"], "network.width=64"),
    **dict.fromkeys(["nz", "z_dim", "latent_dim", "latent"], "model.latent_dim=100"),
    **dict.fromkeys(["loss", "gan_mode"], "model.loss=hinge"),
    **dict.fromkeys(["netG", "generator", "network.netG"], "network/generator=mlp"),
    **dict.fromkeys(["netD", "discriminator", "critic"], "network/discriminator=mlp"),
    **dict.fromkeys(["norm"], "network.norm=instance"),
    **dict.fromkeys(["ema", "clip", "gradient_penalty"], "model.ema=0.999, model.clip or model.gradient_penalty"),
    **dict.fromkeys(["continue_train", "continue", "restart"], RESUME),
    **dict.fromkeys(["checkpoint", "ckpt", "pretrained", "weights"], "init_from=checkpoints/NAME"),
    **dict.fromkeys(["out", "outdir", "output", "output_dir", "save_dir", "log_dir", "run"], RUN),
    **dict.fromkeys(
        ["save_every", "log_every", "image_every", "save_freq"], "trainer.save_every, log_every, image_every"
    ),
    "network": "network/generator=mlp or network/discriminator=mlp",
}
TEST = {
    **dict.fromkeys(["model", "checkpoint", "ckpt", "name", "load", "path"], "run=checkpoints/NAME"),
    **dict.fromkeys(["n", "num_samples", "samples", "num_images", "count", "num_test"], "num=64"),
    **dict.fromkeys(["output", "output_dir", "outdir", "results_dir", "save_dir"], "out=FOLDER"),
    **dict.fromkeys(["device", "gpu", "cuda", "trainer.accelerator", "gpu_ids"], "accelerator=cuda, cpu or mps"),
    **dict.fromkeys(["label", "class", "classes"], "labels=[3,7]"),
    **dict.fromkeys(["data.batch_size", "bs"], "batch_size=8"),
    **dict.fromkeys(["dataroot", "data_root", "root", "input"], "data=single data.root=FOLDER"),
    **dict.fromkeys(["epoch", "iteration", "which_epoch"], "step=1000, or step=best"),
    "eval": "network_mode=eval",
}
PREDICT = TEST | dict.fromkeys(
    ["dataroot", "data_root", "root", "input", "inputs", "data", "images", "image", "src"], "source=FOLDER"
)
NUMBER, WORD = r"[0-9.]+(e-?[0-9]+)?", r"[a-z]\w*"  # A typed value of the same kind replaces that of the table.


KEYS = {  # Typed as flags, they become keys.
    *(
        "checkpoints_dir",
        "data",
        "experiment",
        "init_from",
        "logger",
        "model",
        "name",
        "optimizer",
        "plugins",
        "resume",
    ),
    *("schedule", "seed", "trainer"),
}


def guess(key: str, command: str, value: str = "") -> str:
    """What was meant by an unknown key or flag of a command, with the typed ``value``, or an empty string."""
    words = {"train": TRAIN, "predict": PREDICT}.get(command, TEST)
    plain = key.lstrip("-+~").replace("-", "_")
    meant = words.get(plain) or words.get(plain.lower(), "")
    if not meant and key[:1] == "-" and (plain in KEYS or plain in _own_keys(command) or "." in plain):
        return f"type {plain}=VALUE"
    name, _, example = meant.partition("=")
    if any(re.fullmatch(kind, value) and re.fullmatch(kind, example) for kind in (NUMBER, WORD)):
        meant = f"{name}={value}"
    return f"type {meant}" if meant else ""


def _own_keys(command: str) -> list[str]:
    """The keys in the file of a command other than ``train``."""
    file = resources.files("gantrain.configs").joinpath(f"{command}.yaml")
    return re.findall(r"^(\w+):", file.read_text(encoding="utf-8"), re.MULTILINE) if command != "train" else []


def guess_word(word: str, command: str) -> str:
    """What was meant by a word that is no KEY=VALUE."""
    if word in ("help", "h", "?"):
        return f"type gantrain {command} --help"
    if command != "train":
        return f"type run={word}"
    for group in ("model", "data", "experiment", "optimizer", "schedule", "trainer", "logger", "launcher"):
        if word in group_options(group):
            return f"type {group}={word}"
    group, _, option = word.partition(".")
    if Path(word).is_dir():
        return f"type data=single data.root={word} (pairs: data=aligned; two domains: data=unaligned)"
    return typed_choice(group, option) or guess(word, command)


def guess_path(value: str) -> str:
    """The folder of the run and the step, for the path of a checkpoint ``.../NAME/step_7.pt``."""
    folder, _, file = value.rpartition("/")
    step = file.removesuffix(".pt").removeprefix("step_")
    return f"type run={folder} step={step}" if file.endswith(".pt") and folder else ""


def typed_choice(key: str, value: str) -> str:
    """``network/generator=mlp`` for ``network.generator=mlp``, or an empty string."""
    group = key.replace(".", "/")
    return f"type {group}={value}" if value in group_options(group) else ""


def group_options(group: str) -> list[str]:
    """The names of the files of a configuration group in the package."""
    folder = resources.files("gantrain.configs").joinpath(group)
    return [file.name.removesuffix(".yaml") for file in folder.iterdir()] if folder.is_dir() else []


def needs_data(typed: Sequence[str]) -> bool:
    """Whether ``data.root`` was typed without a data mode that reads it."""
    return not any(word.startswith(("data=", "experiment=")) for word in typed)
