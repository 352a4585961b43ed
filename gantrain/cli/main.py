"""The ``gantrain`` command: one sub-command, one function.

Nothing heavy is imported before it is needed, so that help and completion work without torch.
"""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING

from gantrain import __version__
from gantrain.cli.arguments import asks_help, config_flags, is_sweep, refuse_sweep_keys, split
from gantrain.cli.errors import fail, report_errors
from gantrain.config.guesses import guess_path
from gantrain.errors import ConfigError, nearest
from gantrain.runtime import console
from gantrain.runtime.signals import exit_on_sigint, restore_sigint
from gantrain.sweeps.home import refresh_home

if TYPE_CHECKING:
    from gantrain.cli.compose import Composed

HELP = """\
gantrain trains the classic GANs from a configuration.

  gantrain train [KEY=VALUE ...]      train a model: gantrain train model=wgan_gp data=single data.root=images
  gantrain resume checkpoints/NAME    resume a run; trainer.steps=5000 makes it longer
  gantrain test run=checkpoints/NAME  make images with a trained model
  gantrain predict run=checkpoints/NAME source=IMAGES out=FOLDER   apply a trained model to images
  gantrain evaluate run=checkpoints/NAME metrics=[fid,kid]   how good its images are; or fake=FOLDER real=FOLDER
  gantrain export run=checkpoints/NAME format=onnx   a trained model in the format of other programs
  gantrain compare RUN RUN ...        runs side by side on one page, or all of a folder or a sweep
  gantrain reproduce NAME             a paper's experiment, from its data to a row beside the paper's values
  gantrain runs                       list, remove and rename runs, and write their pages anew
  gantrain list                       what can be chosen: models, networks, data sets, experiments ...
  gantrain migrate "python train.py ..."   the command of pytorch-CycleGAN-and-pix2pix in gantrain's terms
  gantrain data download NAME         download a data set of the papers: gantrain data download horse2zebra
  gantrain data                       all other commands for images

  gantrain benchmark                  speed and memory of training steps: gantrain benchmark model=dcgan,wgan_gp
  gantrain doctor                     what is installed and found here, and what to do about what is missing

  gantrain train --help               all keys, their values, and what they mean
  gantrain help model.pool_size       one key: its type, range, default and meaning
  gantrain train -m KEY=A,B           one run for every combination
  gantrain --version

Tab completion for bash: eval "$(gantrain -sc install=bash)"
"""

RESUMING = ("train", "resume", "reproduce")  # Commands that continue what they have begun.
COMPOSED = ("test", "predict", "evaluate", "export")  # Others whose keys Hydra composes.


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: What follows ``gantrain`` on the command line; by default this process's own.

    Returns:
        Exit status: 0, 1, or 2 for mistakes, 128 + signal after an interruption.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else ""
    try:
        with (
            exit_on_sigint() if command in (*RESUMING, *COMPOSED, "benchmark") else nullcontext(),
            report_errors() as outcome,
        ):
            outcome.status = _run(arguments)
    except KeyboardInterrupt:
        resumes = command in RESUMING and "resume=never" not in arguments
        fail("interrupted" + ("; the same command resumes from the newest checkpoint, if there is one" * resumes))
        return 130
    if command in COMMANDS:
        with report_errors():
            refresh_home(arguments[1:])
    return outcome.status


def _run(arguments: list[str]) -> int:
    if "-sc" in arguments or "--shell-completion" in arguments:
        from gantrain.cli.hydra_main import complete_words

        return complete_words(arguments, list(COMMANDS))
    if arguments[:1] == ["help"] and len(arguments) > 1 and arguments[1] not in COMMANDS:
        from gantrain.cli.help import explain_key

        return explain_key(arguments[1:])
    if arguments[:1] == ["help"] and len(arguments) > 1:
        return COMMANDS[arguments[1]](["--help"])
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        console.out(*HELP.splitlines())
        return 0
    if arguments[0] == "--version":
        console.out(f"gantrain {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        raise ConfigError(f"no command '{command}'; {nearest(command, COMMANDS)}")
    return COMMANDS[command](rest)


def _train(arguments: list[str]) -> int:
    flags, typed = split(arguments)
    from gantrain.cli.resume import named_run, resume

    if (run := named_run(typed)) is not None:
        return resume(run, flags, typed)
    if is_sweep(flags, typed):
        from gantrain.cli.sweep import train_all

        return train_all(arguments, flags, typed)
    from gantrain.cli.compose import check_plugins, compose_training, demo_data, is_plain, refuse_open_braces

    refuse_sweep_keys(flags, typed)
    check_plugins(typed)
    refuse_open_braces(typed)
    if asks_help(flags):
        from gantrain.cli.help import explain_command

        return explain_command("train", flags, [*demo_data(typed, flags), *typed])
    if not is_plain(flags, typed):
        from gantrain.cli.hydra_main import run_hydra

        words = [*flags, *demo_data(typed, flags), *typed]
        return run_hydra("train", words, lambda composed: _train_composed(composed, flags))
    with _without_collections():
        arguments_of_train = compose_training(flags, typed)
        from gantrain.train import train

    return train(*arguments_of_train)


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collections inside: they would search the many objects that imports create, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _resume(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"}.intersection(arguments) or "=" in arguments[0]:
        console.out(
            "gantrain resume RUN [KEY=VALUE ...]: resumes a run with everything as recorded, from any folder, or with "
            "other settings: trainer.steps=5000 makes it longer. The same as gantrain train resume=RUN"
        )
        return 0 if "=" not in "".join(arguments[:1]) else 2
    return _train([f"resume={arguments[0]}", *arguments[1:]])


def _train_composed(composed: Composed, flags: Sequence[str]) -> int:
    """Train what ``hydra.main`` has composed."""
    from gantrain.cli.compose import complete, defaults_of
    from gantrain.train import train

    config = complete(composed)
    overrides = [*config_flags(flags), *composed.overrides]
    return train(config, overrides, lambda: defaults_of(composed.choices, config["name"]))


def _apply(command: str, arguments: list[str]) -> int:
    """One of the commands that apply or judge what was trained, in `gantrain.COMMAND`."""
    flags, typed = split(arguments, command)

    def apply_composed(composed: Composed) -> int:
        if meant := guess_path(str(composed.config["run"])):
            raise ConfigError(f"run={composed.config['run']}: a file, and run is a folder; {meant}")
        function = getattr(import_module(f"gantrain.{command}"), command)
        restore_sigint()
        keys: dict[str, object] = {"overrides": [*config_flags(flags), *composed.overrides]}
        keys = {"predict": {}, "test": {**keys, "data_name": composed.choices.get("data")}}.get(command, keys)
        status: int = function(composed.config, **keys)
        return status

    return _run_composed(command, flags, typed, apply_composed)


def _run_composed(command: str, flags: list[str], typed: list[str], job: Callable[[Composed], int]) -> int:
    """Run a job on the composed configuration, or let Hydra answer its own flags."""
    from gantrain.cli.compose import compose_once, is_plain, refuse_open_braces

    refuse_open_braces(typed)
    if asks_help(flags):
        from gantrain.cli.help import explain_command

        return explain_command(command, flags, typed)
    if is_plain(flags, typed):
        return job(compose_once(command, flags, typed))
    from gantrain.cli.hydra_main import run_hydra

    return run_hydra(command, [*flags, *typed], job)


def _call(module: str, function: str, arguments: list[str]) -> int:
    """A command that a function of a module runs."""
    status: int = getattr(import_module(module), function)(arguments)
    return status


def _compare(arguments: list[str]) -> int:
    from gantrain.sweeps.compare import main as compare

    if not arguments or {"-h", "--help"}.intersection(arguments):
        console.out(
            "gantrain compare RUN... | FOLDER [out=FOLDER] [checkpoints_dir=checkpoints]: compares runs, or all those "
            "of a folder or sweep, on a page and in runs.csv and runs.json"
        )
        return 0
    return compare(arguments)


def _reproduce(arguments: list[str]) -> int:
    from gantrain.cli.compose import CONFIGS, complete, compose_once, config_folders, is_plain
    from gantrain.papers.reproduce import main as reproduce

    flags, typed = split([word for word in arguments if word != "yes=true" and word not in ("-h", "--help")])
    if not is_plain(flags, typed):
        raise ConfigError(
            f"gantrain reproduce {' '.join(arguments)}: give NAME, KEY=VALUE and --config-dir FOLDER only"
        )
    folders = [*config_folders(flags), Path(str(resources.files(CONFIGS)))]
    return reproduce(
        arguments,
        typed,
        folders,
        compose=lambda words: complete(compose_once("train", flags, words)),
        train=lambda words: _train([*flags, *words]),
    )


def _data(arguments: list[str]) -> int:
    from gantrain.cli.data import main as data

    if arguments[:1] == ["check"] and len(arguments) > 1 and not {"-h", "--help"}.intersection(arguments):
        return _check(arguments[1:])
    return data(arguments)


def _check(arguments: list[str]) -> int:
    from gantrain.cli.compose import demo_data

    own = [word for word in arguments if word.startswith(("quick=", "out="))]
    flags, typed = split([word for word in arguments if word not in own])

    def check_composed(composed: Composed) -> int:
        from gantrain.cli.data_check import check

        command = shlex.join(["gantrain", "data", "check", *arguments])
        return check(composed.config, name=composed.choices["data"], options=own, typed=typed, command=command)

    return _run_composed("train", flags, [*demo_data(typed, flags), *typed], check_composed)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "resume": _resume,
    "test": partial(_apply, "test"),
    "predict": partial(_apply, "predict"),
    "evaluate": partial(_apply, "evaluate"),
    "export": partial(_apply, "export"),
    "compare": _compare,
    "reproduce": _reproduce,
    "runs": partial(_call, "gantrain.sweeps.runs", "main"),
    "list": partial(_call, "gantrain.cli.listing", "main"),
    "migrate": partial(_call, "gantrain.migration.migrate", "main"),
    "doctor": partial(_call, "gantrain.doctor", "doctor"),
    "benchmark": partial(_call, "gantrain.cli.sweep", "benchmark_all"),
    "data": _data,
}
