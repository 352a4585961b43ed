"""The words of a gantrain command that options of pytorch-CycleGAN-and-pix2pix become."""

from __future__ import annotations

import re
from pathlib import Path

from gantrain.errors import ConfigError
from gantrain.migration.command import PROCESSES, Migration
from gantrain.migration.options import CUT_KEYS, DATA_MODES, IN_IMAGES, LOSSES, MODELS, OF_CUT, SAME, UNUSED

# Their default values where a mapping depends on them.
EPOCHS = {"cut": (200, 200), "fastcut": (150, 50)}  # Of the other models, 100 and 100.
DECAY_ITERS = 50
WATCHED = {"cycle_gan": "g_a", "pix2pix": "g_l1", "colorization": "g_l1"}  # The loss of the generator.
BETAS = ("0.5", "0.999")


def write_source(options: dict[str, str], found: Migration) -> None:
    """The data set and its folder."""
    mode = options["dataset_mode"]
    if mode not in DATA_MODES:
        raise ConfigError(f"--dataset_mode {mode}: these have a counterpart: {', '.join(DATA_MODES)}")
    root = options.get("dataroot")
    if root is None:
        raise ConfigError("--dataroot is missing, which both need: the folder of the images")
    found.words += [f"data={DATA_MODES[mode]}", f"data.root={root}"]


def write_sizes(options: dict[str, str], found: Migration) -> None:
    """How images are scaled, cropped and mirrored."""
    if (preprocess := options.get("preprocess")) is not None:
        found.words.append(f"data.preprocess={preprocess}")
    for name in ("load_size", "crop_size", "max_dataset_size"):
        if options.get(name, "inf") != "inf":
            found.words.append(f"{SAME[name]}={options[name]}")


def write_data(options: dict[str, str], model: str, found: Migration) -> None:
    """The data set."""
    default = {"pix2pix": "aligned", "colorization": "single"}.get(model, "unaligned")
    write_source({"dataset_mode": default, **options}, found)
    write_sizes(options, found)
    swapped = options.get("direction") == "BtoA"
    if swapped and model != "colorization":
        found.words.append("data.direction=b_to_a")
    if model != "colorization":
        # There, the channels are those of input and output; here, those of the domains A and B.
        keys = ("data.channels_b", "data.channels") if swapped else ("data.channels", "data.channels_b")
        given = [options.get("input_nc"), options.get("output_nc")]
        if any(value not in (None, "3") for value in given):
            found.words += [f"{key}={value or 3}" for key, value in zip(keys, given, strict=True)]
    if "no_flip" in options:
        found.words.append("data.flip=false")
    if "serial_batches" in options:
        if model == "cycle_gan":
            found.words.append("data.serial=true")
        else:
            found.unsupported.append("--serial_batches: images are always drawn in random order in training")
    if (processes := int(options.get(PROCESSES, 1))) > 1:
        size = processes * int(options.get("batch_size", 1))
        found.words.append(f"data.batch_size={size}")
        found.differences.append("--batch_size is that of each process there; data.batch_size is that of all of them")
    elif "batch_size" in options:
        found.words.append(f"data.batch_size={options['batch_size']}")
    if "num_threads" in options:
        found.words.append(f"data.num_workers={options['num_threads']}")
    if options.get("phase", "train") != "train":
        found.unsupported.append(f"--phase {options['phase']}: training reads the phase train")


def write_run(options: dict[str, str], model: str, found: Migration) -> None:
    """The run folder, and the devices."""
    name = options.get("name")
    if name is not None and "suffix" in options:
        values = {"model": model, **options}
        name += "_" + re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[1]), options["suffix"])
    if name is not None:
        found.words.append(f"name={name}")
    if options.get("checkpoints_dir", "./checkpoints") != "./checkpoints":
        found.words.append(f"checkpoints_dir={options['checkpoints_dir']}")
    devices = [number for number in options.get("gpu_ids", "0").split(",") if number]
    if devices == ["-1"]:
        found.words.append("trainer=cpu")
    elif devices != ["0"] and devices:
        found.devices = ",".join(devices)
    count = int(options.get(PROCESSES, len(devices)))
    if count > 1:
        found.words.append(f"trainer.devices={count}")
    if "continue_train" in options:
        found.differences.append(
            "--continue_train: the same command resumes a run of gantrain; to begin with networks trained there, "
            f"init_from={Path(options.get('checkpoints_dir', 'checkpoints'), options.get('name', 'NAME'))}/latest_net_G"
            f"{'_A' if model == 'cycle_gan' else ''}.pth"
        )
    if "epoch_count" in options:
        found.unsupported.append("--epoch_count: a run that resumes knows its step")
    for option in ("epoch", "load_iter"):
        if option in options:
            found.unsupported.append(f"--{option}: a run resumes from its newest checkpoint")


def write_networks(options: dict[str, str], model: str, found: Migration) -> None:
    """The networks."""
    del model
    if "netG" in options:
        found.words.append(f"network/generator={options['netG']}")
    kind = options.get("netD", "basic")
    if kind == "pixel":
        found.words.append("network/discriminator=pixelgan")
    elif kind == "n_layers":
        found.words.append(f"network.discriminator.layers={options.get('n_layers_D', 3)}")
    elif kind != "basic":
        raise ConfigError(f"--netD {kind}: these have a counterpart: basic, n_layers, pixel")
    if kind != "n_layers" and "n_layers_D" in options:
        found.differences.append("--n_layers_D has no effect there without --netD n_layers")
    for name in ("ngf", "ndf"):
        if name in options:
            found.words.append(f"{SAME[name]}={options[name]}")
    if "norm" in options:
        norm = options["norm"].removeprefix("sync_")
        found.words.append(f"network.norm={norm}")
        if norm != options["norm"]:
            found.unsupported.append(f"--norm {options['norm']}: statistics are those of each process")
    for option, key in (("init_type", "init"), ("init_gain", "init_gain")):
        if option in options:
            found.words += [f"network.{side}.{key}={options[option]}" for side in ("generator", "discriminator")]
    if "no_dropout" in options:
        found.words.append("network.dropout=0")


def write_losses(options: dict[str, str], model: str, found: Migration) -> None:
    """The losses and their weights."""
    if (mode := options.get("gan_mode")) is not None:
        if mode not in LOSSES:
            raise ConfigError(f"--gan_mode {mode}: these have a counterpart: {', '.join(LOSSES)}")
        found.words.append(f"model.loss={LOSSES[mode]}")
        if mode == "wgangp":
            found.words += ["model.gradient_penalty=10", "network.discriminator.norm=instance"]
            found.differences.append(
                "--gan_mode wgangp: the models there leave out the gradient penalty; here it bounds the critic, "
                "which excludes batch norm there"
            )
    own = {
        "cycle_gan": ("lambda_A", "lambda_B", "lambda_identity", "pool_size"),
        "pix2pix": ("lambda_L1",),
        "colorization": ("lambda_L1",),
        "cut": (),
        "fastcut": (),
    }
    for name in ("lambda_A", "lambda_B", "lambda_identity", "lambda_L1", "pool_size"):
        if name in options and name in own[model]:
            found.words.append(f"{SAME[name]}={options[name]}")
        elif name in options and (name, options[name]) != ("pool_size", "0"):
            found.unsupported.append(f"--{name} {options[name]}: model={MODELS[model]} has none")


def write_cut(options: dict[str, str], model: str, found: Migration) -> None:
    """What only CUT and FastCUT have."""
    typed = [name for name in CUT_KEYS if name in options]
    if model not in EPOCHS:
        found.unsupported += [f"--{name}: it belongs to CUT" for name in typed]
        return
    for name in typed:
        if name == "nce_layers":
            found.words.append(f"model.nce_layers=[{options[name]}]")
        elif name in SAME:
            found.words.append(f"{SAME[name]}={options[name].lower()}")
    switches = {"no_antialias", "no_antialias_up"} & options.keys()
    if len(switches) == 2:
        found.words.append("network.antialias=false")
    elif switches:
        found.unsupported.append(f"--{switches.pop()}: network.antialias=false is for both directions")


def write_length(options: dict[str, str], model: str, found: Migration) -> None:
    """The length of the run, and the learning rate's schedule."""
    usual = EPOCHS.get(model, (100, 100))
    steady, decaying = (
        int(options.get(name, value)) for name, value in zip(("n_epochs", "n_epochs_decay"), usual, strict=True)
    )
    total = steady + decaying
    if {"n_epochs", "n_epochs_decay"} & options.keys() or model in ("colorization", *EPOCHS):
        found.words.append(f"trainer.epochs={total}")
    policy = options.get("lr_policy", "linear")
    if policy in ("linear", "lambda"):
        if not decaying:
            found.words.append("schedule=constant")
        elif steady * sum(usual) != usual[0] * total:
            found.words.append(f"schedule.start={steady / total:g}")
        found.differences.append("the learning rate falls at every step here, at every epoch there")
    elif policy == "step":
        every = int(options.get("lr_decay_iters", DECAY_ITERS))
        milestones = ",".join(f"{epoch / total:g}" for epoch in range(every, total, every))
        found.words += ["schedule=step", f"schedule.milestones=[{milestones}]"]
    elif policy == "cosine":
        found.words.append("schedule=cosine")
        found.differences.append("--lr_policy cosine reaches zero after --n_epochs there, at the end of the run here")
    elif policy == "plateau":
        found.words += ["schedule=plateau", f"schedule.metric={WATCHED.get(model, 'g')}"]
        found.differences.append(
            "--lr_policy plateau watches no loss there and falls in any case; here schedule.metric"
        )
    else:
        raise ConfigError(f"--lr_policy {policy}: these have a counterpart: linear, step, plateau, cosine")


def write_optimizer(options: dict[str, str], model: str, found: Migration) -> None:
    """The optimizer."""
    del model
    if "lr" in options:
        found.words.append(f"optimizer.lr={options['lr']}")
    betas = tuple(options.get(name, default) for name, default in zip(("beta1", "beta2"), BETAS, strict=True))
    if betas != BETAS:
        found.words.append(f"optimizer.betas=[{','.join(betas)}]")


def write_logging(options: dict[str, str], model: str, found: Migration) -> None:
    """When is logged and saved."""
    del model
    for name, key in IN_IMAGES.items():
        if name in options:
            found.words.append(f"{key}={max(1, int(options[name]) // int(options.get('batch_size', 1)))}")
            found.differences.append(f"--{name} counts images there, {key} training steps here")
    if "save_epoch_freq" in options:
        found.unsupported.append(
            f"--save_epoch_freq {options['save_epoch_freq']}: trainer.save_every counts training steps, and "
            "trainer.keep_every the steps whose checkpoints are never deleted"
        )
    if "save_by_iter" in options:
        found.words.append("trainer.keep=0")
        found.differences.append(
            "--save_by_iter: every checkpoint has the number of its step; trainer.keep=0 keeps all"
        )
    if "use_wandb" in options or "wandb_project_name" in options:
        found.words.append("logger=wandb")
    elif {"display_server", "display_port"} & options.keys():
        found.words.append("logger=visdom")
    for name in ("wandb_project_name", "display_server", "display_port"):
        if name in options:
            found.words.append(f"{SAME[name]}={options[name]}")


def write_unused(options: dict[str, str], found: Migration) -> None:
    """The options without effect here."""
    typed = {name: f"--{name} {value}".rstrip() for name, value in options.items()}
    found.unsupported += [f"{typed[name]}: {reason}" for name, reason in UNUSED.items() if name in typed]
    found.unsupported += [f"{typed[name]}: it belongs to CUT" for name in sorted(OF_CUT & typed.keys())]
