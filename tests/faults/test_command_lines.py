"""Hundreds of malformed commands and configuration files: one to three lines for each, no trace, and no files.

``dry_run=true`` keeps what is valid by chance from training; few of the mutations are.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from warm import Warm

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
--info
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


@pytest.fixture(autouse=True)
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images, and modules that are broken plug-ins."""
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(f"images/{number}.png")
    for name, code in PLUGINS.items():
        Path(f"{name}.py").write_text(code)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", list(sys.path))


def status_of(argv: list[str]) -> int:
    """The exit status of a command, after checks of what it prints and leaves."""
    before, runs = sorted(Path().rglob("*")), sorted(Path("checkpoints").glob("*"))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(argv)
    said = err.getvalue()
    assert status in (0, 1, 2), said
    assert not any(trace in said for trace in TRACES), said
    if status:
        assert 1 <= said.count("\n") <= 3, said
        assert said.endswith("\n")
        assert all(len(line) < 2200 and line[:-1].isprintable() for line in said.splitlines(keepends=True)), said
        assert "gantrain: " in said or "not found in config" in said, said
        assert out.getvalue() == ""
        assert sorted(Path().rglob("*")) == before
    assert sorted(Path("checkpoints").glob("*")) == runs
    return status


def refuses(commands: st.SearchStrategy[list[str]], count: int, *, most: float) -> None:
    """Check ``count`` examples, of which no more than the share ``most`` may pass."""
    statuses: list[int] = []

    @settings(SETTINGS, max_examples=count)
    @given(commands)
    def each(argv: list[str]) -> None:
        statuses.append(status_of(argv))

    each()
    assert len(statuses) >= count
    assert statuses.count(0) <= most * len(statuses)


def refuses_all(commands: Iterable[list[str]], *, but: int) -> None:
    """Check every one of these commands, of which at most ``but`` may pass."""
    passed = [argv for argv in commands if status_of(argv) == 0]
    assert len(passed) <= but, passed


def keys_of(command: str) -> list[str]:
    """Every key of a command, without ``NOT_HERE``."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        assert main([command, "--cfg", "job", *(TINY if command == "train" else [])]) == 0
    return sorted(set(flatten(yaml.safe_load(shown.getvalue()))) - NOT_HERE)


def misspelt(word: str, place: int, letter: str) -> str:
    place %= len(word)
    return word[:place] + letter + word[place + 1 :]


def given_values(keys: Iterable[str], *, signs: str = " ++ + ~") -> st.SearchStrategy[str]:
    """Settings with values that hardly any key accepts."""
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


# ---- gantrain train


def test_values_that_no_key_accepts() -> None:
    refuses(after(DRY, given_values(keys_of("train")), 3), 60, most=0.3)


@pytest.mark.parametrize("part", range(3))
def test_words_that_are_not_settings(part: int) -> None:
    words = [*WORDS.split(), *ODD_WORDS]
    refuses_all(([*DRY, word] for word in words[part::3]), but=1)


def test_random_words() -> None:
    misspelt_keys = st.builds(misspelt, st.sampled_from(keys_of("train")), st.integers(0, 40), st.sampled_from("QZü"))
    words = st.text(max_size=20) | misspelt_keys.map(lambda key: f"{key}=1")
    refuses(after(DRY, words, 2), 40, most=0.1)


def test_flags_that_hydra_does_not_have() -> None:
    flags = [*map(str.split, FLAGS.strip().splitlines()), *ODD_FLAGS]
    refuses_all(([*DRY, *words] for words in flags), but=2)


# ---- configuration files


HEAD = "# @package _global_\n"
FILES = [
    *(
        b"",
        b"42",
        b"hello",
        b"null",
        b"- 1\n- 2\n",
        b"a: \0b\n",
        bytes(range(256)),
        "a: 1".encode("utf-16"),
        b"a: \xed\xa0\x80\n",
    ),
    *(
        b"model: [1, 2\n",
        b"\tmodel: 1\n",
        b"model: a: b\n",
        b"a: 'b\n",
        b"%YAML 9.9\n---\na: 1\n",
        b"a: 1\n---\nb: 2\n",
        b"a: *b\n",
    ),
    *(
        b"# @package\na: 1\n",
        b"# @package a b\na: 1\n",
        b"# @package _nope_\na: 1\n",
        b"# @package model.x.y\na: 1\n",
        b"\xff\xfe",
    ),
]
ENTRIES = [
    *(
        "a: &a [*a]",
        "model: &m\n  name: dcgan\n  x: *m",
        "a: " + "[" * 3000 + "]" * 3000,
        "a: " + "{b: " * 500 + "1" + "}" * 500,
    ),
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
    "model:\n" + "".join(f"  k{number}: {number}\n" for number in range(20000)),
    "a: " + "x" * 1_100_000,
    *(
        "seed: !!python/object/apply:os.system [touch PWNED]",
        "seed: !!python/name:os.system",
        "seed: !foo bar",
        "seed: !!int x",
    ),
    *(
        "seed: !!binary '*'",
        "seed: !!timestamp x",
        "seed: !!set {a}",
        "seed: !!omap [a: 1]",
        "seed: 2020-01-01",
        "seed: 1\nseed: 2",
    ),
    *(
        "? [a, b]\n: 1",
        "1: 2",
        "true: 2",
        "null: 2",
        "<<: 1",
        "seed: ${nope}",
        "seed: ${",
        "seed: ${seed}",
        "seed: [1]",
        "a: ???",
    ),
    *(
        "defaults: 1",
        "defaults: [[1]]",
        "defaults: {a: 1}",
        "defaults: [null]",
        "defaults: [nope]",
        "defaults: [_self_, _self_]",
    ),
    *(
        "defaults: [{a: {b: 1}}]",
        "defaults: [{a: 1, b: 2}]",
        "defaults: [made]",
        "defaults: [{/model: made}]",
        "defaults: [a@]",
    ),
    *(
        "defaults: [dcgan, {override /optimiser: adam}]",
        "defaults: [{override /model: gan}]",
        'name: "../x\\n\\0\\e[31m\\n\\n"',
    ),
    *(
        "hydra: null",
        "hydra:\n  run: 1",
        "hydra:\n  callbacks:\n    x: {_target_: os.mkdir, name: PWNED}",
        "plugins: [raises]",
    ),
    *(
        'hydra: {callbacks: {x: {"\\x5ftarget_": os.mkdir, name: PWNED}}}',
        "plugins: raises",
        "model: 1",
        "data: []",
        "trainer: x",
    ),
]


def written(content: bytes) -> list[str]:
    Path("conf/model").mkdir(parents=True, exist_ok=True)
    Path("conf/model/made.yaml").write_bytes(content)
    return ["train", "--config-dir", "conf", "model=made", *DRY[1:]]


@pytest.mark.parametrize("part", range(2))
def test_files_that_are_not_configurations(part: int) -> None:
    entries = [f"{HEAD}{'' if 'defaults' in entry else 'defaults: [dcgan]'}\n{entry}\n".encode() for entry in ENTRIES]
    refuses_all((written(content) for content in [*FILES, *entries][part::2]), but=3)
    assert not Path("PWNED").exists()


def test_files_of_arbitrary_bytes() -> None:
    refuses(st.binary(max_size=200).map(written), 20, most=0.0)


def test_a_good_configuration_file_with_a_few_other_bytes() -> None:
    good = (resources.files("gantrain.configs") / "model/dcgan.yaml").read_bytes()

    def damaged(changes: list[tuple[int, int, bytes]]) -> bytes:
        content = good
        for start, length, new in changes:
            start %= len(content) + 1
            content = content[:start] + new + content[start + length :]
        return content

    bytes_ = st.binary(max_size=3) | st.sampled_from(
        [b"[", b"{", b"'", b": ", b"- ", b"&a ", b"*a", b"\n", b"#", b"${", b"!!", b"? ", b"\t"]
    )
    changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 4), bytes_), min_size=1, max_size=4)
    refuses(changes.map(damaged).map(written), 40, most=0.5)


# ---- the other commands


def test_values_that_gantrain_test_does_not_accept(trained) -> None:
    trained("dcgan").rename("checkpoints/one")
    assert main(["test", "run=checkpoints/one", "num=1", "out=made", "accelerator=cpu"]) == 0
    bad = st.sampled_from(
        ["=" + word for word in ("", ".", "..", "/", "/dev/null", "images", "raises.py", "'\x00'", "'a\nb'", "~x")]
    )
    places = st.builds(str.__add__, st.sampled_from(["run", "weights", "data"]), bad)
    words = given_values(set(keys_of("test")) - {"run"}) | places
    refuses(after(["test", "run=checkpoints/one", "num=1", "accelerator=cpu"], words, 2), 40, most=0.3)


DATA = {  # needed arguments, options
    "lmdb": (2, ()),
    "export": (2, ("layout", "fraction", "seed")),
    "check": (0, ("data", "data.root", "data.channels", "data.load_size", "quick", "seed", "plugins")),
    "download": (1, ("root",)),
    "prepare pairs": (3, ()),
    "prepare split_pairs": (2, ()),
    "prepare edges": (2, ("sigma", "low", "high", "invert")),
    "prepare resize": (2, ("size",)),
    "prepare split": (2, ("train", "val", "test", "seed", "links")),
    "prepare": (1, ()),
    "nothing": (1, ()),
}


@st.composite
def data_commands(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(DATA)))
    needed, options = DATA[name]
    place = st.sampled_from(
        ["images", "raises.py", "", ".", "/dev/null", "\x00", "a\nb", "nowhere", "-x", "x" * 300, "ü"]
    )
    count = draw(st.sampled_from([needed, needed, needed, needed + 1, max(0, needed - 1)]))
    places = [draw(place) for _ in range(count)]
    given = [draw(given_values(options, signs="")) for _ in range(draw(st.integers(1, 2)))] if options else []
    return ["data", *name.split(), *places, *given]


def test_what_gantrain_data_does_not_accept() -> None:
    refuses(data_commands(), 80, most=0.1)


def test_a_nul_in_a_path_is_reported() -> None:
    refuses_all(
        [
            ["test", "weights='\x00'", "data=single", "data.root=images"],
            ["data", "lmdb", "images", "\x00"],
            ["data", "export", "\x00", "made"],
            ["data", "prepare", "resize", "images", "\x00"],
        ],
        but=0,
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "seed=[1"],
        ["train", "plugins=[leaves]", "name=../x"],
        ["train", "--experimental-rerun", "raises.py"],
        ["test", "weights=raises.py", "data=single", "data.root=images"],
        ["data", "prepare", "resize", "images", "made", "size=[[[["],
    ],
)
def test_as_real_commands(argv: list[str], warm: Warm) -> None:
    before = sorted(Path().rglob("*"))
    done = warm.run(["-B", "-m", "gantrain", *argv])
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("gantrain: ")
    assert done.stderr.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
