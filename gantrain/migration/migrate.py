"""`gantrain migrate`: a command of pytorch-CycleGAN-and-pix2pix as a command of gantrain."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from gantrain.errors import ConfigError
from gantrain.migration.command import Migration, parse, read_options
from gantrain.migration.options import MODELS
from gantrain.migration.words import (
    write_cut,
    write_data,
    write_length,
    write_logging,
    write_losses,
    write_networks,
    write_optimizer,
    write_run,
    write_sizes,
    write_source,
    write_unused,
)
from gantrain.runtime import console

USAGE = """\
gantrain migrate "python train.py --dataroot ./datasets/maps --model cycle_gan ..."
gantrain migrate checkpoints/maps_cyclegan/train_opt.txt

Prints the gantrain command for a command of pytorch-CycleGAN-and-pix2pix (train.py or test.py, with the options of 2017
to 2025) or of contrastive-unpaired-translation, or for the options that it has stored, and, as comments, the options
without a counterpart and those that mean something else."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: There is no such command or file, an option is unknown, or the model has no counterpart.
    """
    if not arguments or {"-h", "--help"} & {arguments[0]}:
        console.out(*USAGE.splitlines())
        return 0
    console.out(*migrate(list(arguments)).lines())
    return 0


def migrate(arguments: list[str]) -> Migration:
    """The migration of a command, typed as one word or as several, or of a file of options."""
    file = Path(arguments[0])
    if len(arguments) == 1 and file.suffix == ".txt":
        training, options = read_options(file)
    else:
        try:
            words = shlex.split(arguments[0]) if len(arguments) == 1 else arguments
        except ValueError:
            raise ConfigError(f"{arguments[0]}: a quotation mark is missing") from None
        training, options = parse(words)
    return _train(options) if training else _test(options)


def _train(options: dict[str, str]) -> Migration:
    """The migration of a command of train.py."""
    model = options.get("model", "cut" if "CUT_mode" in options else "cycle_gan")
    if model == "cut" and options.get("CUT_mode", "CUT").lower() == "fastcut":
        model = "fastcut"
    if model not in MODELS:
        known = "test is for test.py" if model == "test" else f"these have a counterpart: {', '.join(MODELS)}"
        raise ConfigError(f"--model {model}: {known}")
    found = Migration(["train", f"model={MODELS[model]}"])
    for write in (
        write_data,
        write_run,
        write_networks,
        write_losses,
        write_cut,
        write_length,
        write_optimizer,
        write_logging,
    ):
        write(options, model, found)
    write_unused(options, found)
    return found


def _test(options: dict[str, str]) -> Migration:
    """The migration of a command of test.py."""
    found = Migration(["test"])
    model, name = options.get("model", "test"), options.get("name", "experiment_name")
    folder = Path(options.get("checkpoints_dir", "checkpoints"), name)
    epoch = f"iter_{options['load_iter']}" if int(options.get("load_iter", 0)) else options.get("epoch", "latest")
    suffix = options.get("model_suffix", "")
    theirs = folder / f"{epoch}_net_G{suffix or ('_A' if model == 'cycle_gan' else '')}.pth"
    bare = model == "test" or theirs.is_file()
    found.words.append(f"weights={theirs}" if bare else f"run={folder}")
    if not bare:
        found.differences.append(f"run= is a run of gantrain; a network trained there: weights={theirs} data=...")
        if epoch != "latest":
            found.differences.append(f"--epoch {epoch}: checkpoints have the number of their step here: step=NUMBER")
    if bare or "dataroot" in options:
        mode = "single" if model == "test" else "aligned" if model == "pix2pix" else "unaligned"
        write_source({"dataset_mode": mode, **options}, found)
        write_sizes(
            {"load_size": options.get("crop_size", "256"), **options} if "crop_size" in options else options, found
        )
    if bare and model == "cycle_gan" or options.get("direction") == "BtoA" and model != "test":
        found.differences.append("--direction: a cyclegan translates both ways; direction=b_to_a or a_to_b selects one")
    for option, key in (("num_test", "num"), ("phase", "phase"), ("results_dir", "out"), ("seed", "seed")):
        if option in options:
            found.words.append(f"{key}={options[option]}")
    if "eval" in options:
        found.words.append("network_mode=eval")
    if options.get("gpu_ids") == "-1":
        found.words.append("accelerator=cpu")
    if "no_dropout" in options and bare and model == "pix2pix":
        found.words.append("dropout=0")
    if "num_test" not in options:
        found.differences.append("--num_test is 50 by default there; here all images are translated: num=50")
    own = {"netG", "netD", "ngf", "ndf", "norm", "init_type", "init_gain", "input_nc", "output_nc", "n_layers_D"}
    if found_own := sorted(own & options.keys()):
        found.differences.append(
            f"not needed: {', '.join(f'--{name}' for name in found_own)}: the architecture is found in the weights"
        )
    write_unused(options, found)
    return found
