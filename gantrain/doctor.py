"""`gantrain doctor`: what gantrain finds on this machine, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path

import torch
from packaging.requirements import Requirement
from torchvision.models import AlexNet_Weights

import gantrain
from gantrain.errors import ConfigError
from gantrain.exports.browser import BrowserRuntime
from gantrain.metrics.features import inception
from gantrain.metrics.features.weights import stored_file
from gantrain.runtime import console
from gantrain.runtime.atomic import cache_dir
from gantrain.runtime.memory import free_memory

GIGABYTE = 1e9
LEAST_DISK, LEAST_MEMORY, LEAST_SHARED = 10, 4, 1  # Gigabytes below which a remedy is printed.
LEAST_FILES = 1024  # Open files.
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    found: str
    remedy: str = ""  # What to do; empty if nothing has to be done.
    is_fatal: bool = False  # Whether gantrain can't work without the remedy.


def doctor(arguments: Sequence[str]) -> int:
    """Print what is found.

    Returns:
        Exit status: 1 if gantrain can't work, else 0.
    """
    if arguments:
        console.out(
            "gantrain doctor: versions, devices, threads, memory, disk, weights and extras, and what is missing"
        )
        return 0 if {"-h", "--help"}.issuperset(arguments) else 2
    fatal = False
    rooms = {"Versions": _versions(), "Machine": _machine(), "Files": _files(), "Extras": _extras()}
    for title, findings in rooms.items():
        console.out(title)
        for each in findings:
            console.out(
                f"  {each.subject:<16} {each.found}", *([f"  {'':<16} -> {each.remedy}"] if each.remedy else [])
            )
            fatal |= each.is_fatal
    return int(fatal)


def _requirements() -> list[Requirement]:
    """What the installed package requires, also in its extras; empty in a clone that is not installed."""
    try:
        return [Requirement(text) for text in requires("gantrain") or ()]
    except PackageNotFoundError:
        return []


def _versions() -> Iterator[Finding]:
    package = Path(gantrain.__file__).parent
    yield Finding("gantrain", f"{gantrain.__version__} in {package}")
    yield Finding("configurations", str(files("gantrain.configs")))
    yield Finding("python", f"{platform.python_version()}, {platform.platform()}")
    own = _requirements()
    if not own:
        yield Finding("installation", "none: this is a clone", "pip install -e . installs the command gantrain")
    for each in own:
        if each.marker is None or each.marker.evaluate({"extra": ""}):
            yield _package(each, f"pip install '{each}'", is_fatal=True)


def _package(requirement: Requirement, remedy: str, *, is_fatal: bool) -> Finding:
    """A package that is required, or would be of use."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "missing", remedy, is_fatal)
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, f"{found}, {requirement.specifier} is required", remedy, is_fatal)
    return Finding(requirement.name, found)


def _machine() -> Iterator[Finding]:
    yield from _devices()
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    given = (
        "as OMP_NUM_THREADS says" if "OMP_NUM_THREADS" in os.environ else "trainer.threads=auto uses fewer if faster"
    )
    yield Finding("threads", f"{threads} of torch ({given}), {cores} cores, load {os.getloadavg()[0]:.1f}")
    memory = free_memory() / GIGABYTE
    yield Finding("free memory", f"{memory:.1f} GB", "close other programs" if memory < LEAST_MEMORY else "")
    if SHARED_MEMORY.is_dir():
        shared = shutil.disk_usage(SHARED_MEMORY).free / GIGABYTE
        small = "data workers need it: docker run --shm-size=8g, or data.num_workers=0" if shared < LEAST_SHARED else ""
        yield Finding("shared memory", f"{shared:.1f} GB", small)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = "ulimit -n 65536, for data sets of many shards and several workers" if 0 <= limit < LEAST_FILES else ""
    yield Finding("open files", "unlimited" if limit == resource.RLIM_INFINITY else f"at most {limit:,}", few)


def _devices() -> Iterator[Finding]:
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            yield Finding(f"cuda:{number}", f"{facts.name}, {facts.total_memory / GIGABYTE:.0f} GB")
        return
    if torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU")
        return
    reason = ""
    if shutil.which("nvidia-smi"):
        built = torch.version.cuda
        reason = (
            f"this torch is built for CUDA {built}: a newer driver may be needed"
            if built
            else "there is an NVIDIA driver, but this torch is built for CPUs: install torch for CUDA"
        )
    yield Finding("device", "CPU only", reason)


def _files() -> Iterator[Finding]:
    for subject, folder in (("checkpoints", Path("checkpoints")), ("cache", cache_dir())):
        there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
        free = shutil.disk_usage(there).free / GIGABYTE
        remedy = {
            "checkpoints": "checkpoints_dir=FOLDER puts runs on a larger disk",
            "cache": "GANTRAIN_CACHE=FOLDER puts the cache on a larger disk",
        }[subject]
        yield Finding(subject, f"{folder.absolute()}, {free:.0f} GB free", remedy if free < LEAST_DISK else "")
    for metric, address, others in (
        ("fid, kid, is", inception.WEIGHTS, [inception.OTHER_NAME]),
        ("lpips", AlexNet_Weights.IMAGENET1K_V1.url, []),
    ):
        target, found = stored_file(address, also=others)
        yield Finding(
            f"{metric} weights",
            str(found) if found else f"not at {target}",
            "" if found else "downloaded at first use; without a network, put the file there",
        )
    try:
        BrowserRuntime.find(None, fetch=False)
        yield Finding("browser runtime", "in the cache")
    except ConfigError:
        npm = shutil.which("npm")
        remedy = (
            "fetched by npm at the first export to HTML" if npm else "install npm, or give ort=FOLDER to format=html"
        )
        yield Finding("browser runtime", "not in the cache", remedy)


def _extras() -> Iterator[Finding]:
    """The optional packages by extra."""
    for each in _requirements():
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(each.marker or ""))
        if extra and extra[1] != "test":
            found = _package(each, f"pip install 'gantrain[{extra[1]}]'", is_fatal=False)
            yield Finding(f"[{extra[1]}]", f"{each.name} {found.found}", found.remedy)
