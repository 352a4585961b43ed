"""Malformed values, overrides and flags, and how commands must refuse them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from gantrain.cli.main import main
from gantrain.config.overrides import flatten

TINY = ["data=single", "data.root=images", "data.load_size=16", "data.crop_size=16", "network.width=4"]
DRY = ["train", *TINY, "data.batch_size=4", "data.cache=off", "trainer.accelerator=cpu", "dry_run=true"]
TRACES = ("Traceback", "Error executing job", "HYDRA_FULL_ERROR", "usage:", 'File "')
VALUES = r"""
nan inf -inf 1e400 99999999999999999999 -99999999999999999999 1e18 -1 0.5 1/2 0x10 null ??? ~ - -- @x
[] {} [[]] [1,2,3] {a:1} [nan,inf] [a,'b'] [null] [true] [[[[1 [1 {a: {a ] } ) \ ' " '' 'a "a a'b \' a:b a=b = ==
, 1,2 a,b ${nope} ${ ${} ${seed} ${.name} ${..x} ${nope:1} ${oc.env:NOPE} ${oc.decode:[} ${model} choice( choice(1,2)
range(1,3) glob(*) sort(1) int(x) json_str(1) extend_list(1) shuffle(1 !!python/name:os.system &a *a %s {0}
/dev/null / .. ../../x nowhere/at/all '*' '[0' ~/nope ü 名前 😀
"""
ODD_VALUES = (
    "",
    "' '",
    "a b",
    "' a'",
    "\x00",
    "'\x00'",
    "a\nb",
    "'a\nb\nc\nd\ne'",
    "\r",
    "'\x1b[31m'",
    "\udcff",
    "\u202e",
)
LONG_VALUES = ("x" * 300, "9" * 5000, "[" * 2000, "{a:" * 300)
WORDS = r"""
= == =1 + ++ += ~ ~= +~a=1 ~~seed @ @= @x=1 seed seed:1 ~optimizer ~model ~data ~network ~trainer ~seed ~plugins ~resume
~nope ~network.generator model=null data=1 network=null optimizer=[] model=[a,b] experiment=[a,b] logger=${x} +model=gan
model@x=dcgan model@=dcgan data@model=digits +model@x=dcgan model@_global_=dcgan model@model:x=dcgan
model=../data/digits model=/etc/passwd model=. model=.. model=a/b experiment=../model/dcgan model= model=dcgn data=digit
experiment=wgan_lsun network/generator=dcg network/generatr=dcgan trainer=gpus seed.x=1 .seed=1 seed.=1 ....=1 seed[0]=1
optimizer.betas[0]=1 plugins.0=x +a.b.c=1 +seed=1 hydra=1 ~hydra hydra.run=null hydra.mode=x hydra/launcher=x
hydra/sweeper=x hydra.searchpath=1 hydra.job.env_set.X=1 hydra.callbacks.a._target_=os.system hydra.runtime=null
hydra.job_logging=null plugins=[nope] plugins=[''] plugins=['.'] plugins=['..x'] plugins=[os.path.nope] plugins=[raises]
plugins=[leaves] plugins=[is_broken] plugins=[wants_more] plugins=[recurses] plugins=[is_binary] plugins=[says_bye]
plugins=[registers_twice] name=../../x name=/abs name=.. name=. name=a/b name= init_from=x.pth init_from=/dev/null.pth
seed=99999999999999999999 trainer.steps=1e30 trainer.epochs=1e308 trainer.kimg=1e308 data.batch_size=1e18
data.num_workers=1e12 data.load_size=1e9 network.width=1e18 model.critic_steps=1e12 network.generator.extra_layers=1e12
"""
ODD_WORDS = ("", " ", "\n", "\x00", "name='a\nb'", "name=' '", "name='\x00'", "plugins=['a\x00b']", "name=" + "x" * 300)
FLAGS = """
--cfg
--cfg nope
--cfg=
--cfg=job=x
--cfg job --cfg job
--info nope
--config-name nope
--config-name=
--config-path /
--config-path nope
-cp
--config-dir nope
--config-dir raises.py
--config-dir
-cd=
-x
--
-
---
-h=1
--experimental-rerun raises.py
--experimental-rerun=x
--run -m
-m=1
-m seed=
-m seed=x,y
-m model=nope,gan
--multirun hydra/sweeper=x
--resolve
--resolve --cfg job seed=${nope}
--help model=nope
-sc
-sc x
-sc a -sc b
--shell-completion install=nope
"""
ODD_FLAGS = (["--config-dir", ""], ["--config-dir", "a\x00b"], ["--\n"], ["-\x00"], ["-ü"], ["--cfg", "job\n"])
PLUGINS = {
    "raises": "x = 1\nraise ValueError('a\\nb\\nc\\nd\\ne')\n",
    "leaves": "import sys\nsys.exit(0)\n",
    "says_bye": "raise SystemExit('bye')\n",
    "is_broken": "def (:\n",
    "wants_more": "import nowhere.at.all\n",
    "recurses": "def f():\n    f()\nf()\n",
    "is_binary": "\0\1\2",
    "registers_twice": "from gantrain.registry import MODELS\n@MODELS.register('dcgan')\nclass A:\n    pass\n",
}
# Keys for which some of the values above would do something slow, or write to places outside the test.
NOT_HERE = {"dry_run", "trainer.compile", "trainer.deterministic", "out"}
SETTINGS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # Shrinking a failure takes minutes.
)


def write_images_and_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save four images, and modules that are broken plug-ins, in the working directory."""
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"images/{number}.png")
    for name, code in PLUGINS.items():
        Path(f"{name}.py").write_text(code)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))


def status_of(argv: list[str]) -> int:
    """The exit status of a command, after checks of its output and its files."""
    before, runs = sorted(Path().rglob("*")), sorted(Path("checkpoints").glob("*"))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(argv)
    message = err.getvalue()
    assert status in (0, 1, 2), message
    assert not any(trace in message for trace in TRACES), message
    if status:
        assert 1 <= message.count("\n") <= 3, message
        assert message.endswith("\n")
        assert all(len(line) < 2200 and line[:-1].isprintable() for line in message.splitlines(keepends=True)), message
        assert "gantrain: " in message or "not found in config" in message, message
        assert out.getvalue() == ""
        assert sorted(Path().rglob("*")) == before
    assert sorted(Path("checkpoints").glob("*")) == runs
    return status


def check_examples(commands: st.SearchStrategy[list[str]], count: int, *, most: float) -> None:
    """Check ``count`` examples, of which no more than the fraction ``most`` may succeed."""
    statuses: list[int] = []

    @settings(SETTINGS, max_examples=count)
    @given(commands)
    def each(argv: list[str]) -> None:
        statuses.append(status_of(argv))

    each()
    assert len(statuses) >= count
    assert statuses.count(0) <= most * len(statuses)


def check_all(commands: Iterable[list[str]], *, but: int) -> None:
    """Check every one of these commands, of which at most ``but`` may succeed."""
    passed = [argv for argv in commands if status_of(argv) == 0]
    assert len(passed) <= but, passed


def keys_of(command: str) -> list[str]:
    """Every key of a command, without ``NOT_HERE``."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        assert main([command, "--cfg", "job", *(TINY if command == "train" else [])]) == 0
    return sorted(set(flatten(yaml.safe_load(shown.getvalue()))) - NOT_HERE)


def given_values(keys: Iterable[str], *, signs: str = " ++ + ~") -> st.SearchStrategy[str]:
    """Overrides with values that hardly any key accepts."""
    values = (
        st.sampled_from([*VALUES.split(), *ODD_VALUES, *LONG_VALUES])
        | st.text(max_size=12)
        | st.floats().map(str)
        | st.integers().map(lambda n: str(n**5))
    )
    starts = st.sampled_from(["", "", *signs.split(" ")])
    return st.builds(lambda start, key, value: f"{start}{key}={value}", starts, st.sampled_from(sorted(keys)), values)


def after(command: list[str], words: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(words, min_size=1, max_size=most).map(lambda chosen: [*command, *chosen])
