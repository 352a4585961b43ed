"""The tutorials as scripts: their commands in order, word for word but for sizes, on a few small images."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from archives import serving, tarred
from cluster import Cluster
from needs import is_installed
from PIL import Image
from test_docs import DOCS, commands
from torchvision_files import made_cifar10

from gantrain.checkpoints.file import read
from gantrain.cli.main import main
from gantrain.exports.browser import MODULE, RUNTIME, WASM
from gantrain.papers.record import read_record

pytestmark = pytest.mark.slow

SMALL = {  # These replace what is typed.
    "trainer.steps": "2",
    "trainer.epochs": "null",
    "data.batch_size": "2",
    "data.num_workers": "0",
    "network.width": "4",
    "trainer.accelerator": "cpu",
}
SIZES = {"data.load_size": "32", "data.crop_size": "32"}
FEATURES = ["metrics.features=digits", "metrics.channels=[0]", "metrics.samples=20"]  # Inception is not here.
OWN_IMAGES = ("photographs", "paired_tiff", "conditional")
ELSEWHERE = ("index", "paper", "cluster", "your_gan")  # Below, and in test_extending.py.


def images(folder: str, count: int, suffix: str = "jpg") -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        pixels = np.random.RandomState(number).randint(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{number}.{suffix}")


@pytest.fixture
def files() -> None:
    """What the tutorials say that there is."""
    images("collected/A", 20)
    images("collected/B", 20)
    images("holiday", 2)
    images("flowers/img", 8, "png")
    Image.new("RGB", (96, 96)).save("holiday/large.jpg")
    lines = [f"img/{number}.png,{'tulip' if number % 2 else 'daisy'}\n" for number in range(8)]
    Path("flowers/files.csv").write_text("path,label\n" + "".join(lines))
    for phase in ("train", "test"):
        for domain, channels in (("A", 1), ("B", 2)):
            Path(f"cells/{phase}{domain}").mkdir(parents=True)
            for number in range(3):
                shape = (channels, 64, 64) if channels > 1 else (64, 64)
                pixels = np.random.RandomState(len(phase) * 10 + number).randint(0, 4096, shape, dtype=np.uint16)
                tifffile.imwrite(f"cells/{phase}{domain}/{number}.tif", pixels)
    Path("ort").mkdir()
    for name in (RUNTIME, MODULE, WASM):
        Path("ort", name).touch()


def short(words: list[str], tutorial: str) -> list[str]:
    """A command with small sizes."""
    name, *typed = words
    if name == "train":
        small = SMALL | (SIZES if tutorial in OWN_IMAGES else {"metrics.samples": "20"})
        if "sweeper=optuna" in typed:
            small["hydra.sweeper.n_trials"] = "1"
        typed = [word for word in typed if word.partition("=")[0] not in small]
        return [name, *typed, *(f"{key}={value}" for key, value in small.items())]
    if name == "evaluate":
        typed = [word for word in typed if not word.startswith("metrics.samples")] + FEATURES
    if name in ("test", "predict"):
        typed = ["num=4" if word.startswith("num=") else word for word in typed]
    return [name, *typed, *(["ort=ort"] if "format=html" in typed else [])]


@pytest.mark.parametrize("tutorial", [*OWN_IMAGES, "sweep"])
@pytest.mark.usefixtures("files", "few_digits", "warm_python")
def test_a_tutorial_runs(tutorial: str, capsys) -> None:
    done = 0
    for words in commands(f"tutorials/{tutorial}.md", blocks_only=True):
        needed = {"launcher=joblib": "hydra_joblib_launcher", "sweeper=optuna": "hydra_optuna_sweeper"}
        if any(word in words and not is_installed(f"hydra_plugins.{plugin}") for word, plugin in needed.items()):
            continue
        if words[0] == "compare":
            for model in ("dcgan", "lsgan"):
                assert main(short(["train", f"model={model}", f"name={model}_digits"], tutorial)) == 0
        status = main(short(words, tutorial))
        assert status == 0, f"{words}: {capsys.readouterr().err}"
        done += 1
    assert done > 1  # Without the packages of launchers and sweepers, the tutorial of sweeps has two commands.


def test_no_tutorial_is_left_out() -> None:
    assert {path.stem for path in (DOCS / "tutorials").iterdir()} == {*OWN_IMAGES, "sweep", *ELSEWHERE}


# ---- a paper

PAPER = ["data.load_size=36", "data.crop_size=32", *FEATURES[:2], "metrics.is.splits=1"]


@pytest.mark.usefixtures("warm_python")
def test_the_tutorial_of_a_paper_runs(monkeypatch, capsys) -> None:
    small = [f"{key}={value}" for key, value in SMALL.items() if key != "data.batch_size"]  # The experiment's is 1.
    names = {f"facades/{phase}/{number}.jpg" for phase in ("train", "test") for number in range(3)}
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # One download is asked for.
    with serving(monkeypatch) as serve:
        serve("facades", tarred(names))
        for words in commands("tutorials/paper.md"):
            trains = any("pix2pix_facades" in word for word in words)
            assert main([*words, *(small + PAPER if trains else [])]) == 0, f"{words}: {capsys.readouterr().err}"
    rows = read_record(Path("checkpoints/reproductions.csv"))
    assert [(row.metric, row.paper, row.seed) for row in rows] == [
        (metric, paper, seed) for seed in "01" for metric, paper in (("fid", "124.98"), ("is", "1.62"))
    ]
    assert all(float(row.measured) > 0 and ("seed=1" in row.changes) == (row.seed == "1") for row in rows)


# ---- a cluster

# In every process; ``made_cifar10`` does the same in this one.
CIFAR = """
from torchvision.datasets import CIFAR10
CIFAR10.train_list, CIFAR10.test_list = [["data_batch_1", None]], [["test_batch", None]]
CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": None}
"""
ALONE = [{}]
TWO_TASKS = [{"TASKS": "2"}]
TWO_NODES = [{"NODE": node} for node in "01"]
TWO_PODS = [{"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": rank} for rank in "01"]
SKY = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "1", "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.2"}
TWO_MACHINES = [{**SKY, "SKYPILOT_NODE_RANK": rank} for rank in "01"]
# The scripts of the tutorial: a part of each, the variables of the nodes that run it, and the ranks of its runs.
SCRIPTS = [
    ("data=cifar10 trainer=gpu", ALONE, [1]),
    ("gantrain benchmark", ALONE, []),
    ("trainer=multi_gpu", ALONE, [2, 2]),
    ("--max-restarts=3", ALONE, [2]),
    ("--gres=gpu:1", ALONE, [1]),
    ("--ntasks-per-node", TWO_TASKS, [2]),
    ("--node-rank=$NODE", TWO_NODES, [2]),
    ("data.batch_size=2", TWO_PODS, [2]),
    ("$SKYPILOT_NODE_RANK", TWO_MACHINES, [2]),
    ("launcher=submitit_slurm", ALONE, [1, 1, 1, 1]),
]
SIZES_OF_NODES = {
    "data=horse2zebra": "data=horse2zebra data.crop_size=32",
    "trainer=multi_gpu": "trainer=multi_gpu trainer.devices=2",  # A CPU is one device.
    "--nproc-per-node=4": "--nproc-per-node=1",
    "10.0.0.1": "127.0.0.1",
    "=/checkpoints": "=checkpoints",
    "range(3)": "range(1)",
}


def scripts(page: str) -> list[str]:
    """The blocks of commands of a page, and those in the files that it shows."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for block, name in re.findall(r"^```bash\n(.*?)^```|^```{literalinclude} (\S+)", text, re.DOTALL | re.MULTILINE):
        script = block or (DOCS / page).parent.joinpath(name).read_text(encoding="utf-8")
        if name.endswith(".py"):
            continue  # Ray's, which .ci/run runs in an environment of its own.
        if name.endswith(".yaml"):
            content = yaml.safe_load(script)
            pods = content.get("spec", {}).get("pytorchReplicaSpecs", {}).values()
            of_pods = [pod["template"]["spec"]["containers"][0]["args"] for pod in pods]
            script = content.get("run") or f"gantrain {shlex.join(of_pods[0])}"
        found.append(script)
    return found


@pytest.fixture
def cluster(warm_python: None, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """With the data sets of the tutorial."""
    made_cifar10(Path("datasets"), monkeypatch)
    for folder in ("trainA", "trainB", "testA", "testB"):
        images(f"datasets/horse2zebra/{folder}", 4)
    Path("tiny_cifar.py").write_text(CIFAR)
    small = {**SMALL, "data.load_size": "32", "plugins": "[tiny_cifar]", "metrics": "none", "trainer.threads": "1"}
    return Cluster(Path("bin"), sys.executable, [f"{key}={value}" for key, value in small.items()])


def test_the_tutorial_of_a_cluster_runs(cluster: Cluster) -> None:
    found = scripts("tutorials/cluster.md")
    assert len(found) == len(SCRIPTS)
    for script, (part, nodes, ranks) in zip(found, SCRIPTS, strict=True):
        assert part in script
        if "submitit" in script and not is_installed("hydra_plugins.hydra_submitit_launcher"):
            continue
        for typed, small in SIZES_OF_NODES.items():
            script = script.replace(typed, small)
        cluster.run(script, *nodes)
        runs = list(Path("checkpoints").rglob("step_2.pt"))
        assert [len(read(path)["ranks"]) for path in runs] == ranks, script
        shutil.rmtree("checkpoints", ignore_errors=True)
