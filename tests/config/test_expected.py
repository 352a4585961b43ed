"""The values that experiments are expected to reach."""

from __future__ import annotations

import math
import re

import pytest
from conftest import TINY, assert_mentions, newest
from yaml_files import CONFIGS, composed, files_of

from gantrain.cli.main import main
from gantrain.config.expected import address_of, expected_in, expected_values
from gantrain.config.naming import run_name
from gantrain.config.overrides import differences
from gantrain.errors import ConfigError

GOOD = {"metric": "fid", "value": 77.2, "protocol": "120 generated vs 140 test", "source": "arXiv:2007.15651"}
SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|[\w-]+/[\w.-]+(, issue \d+)?")


@pytest.mark.parametrize("experiment", files_of("experiment"))
def test_every_experiment_states_expected_values_with_their_sources(experiment: str) -> None:
    # In its own file: those of an experiment that it inherits from have other settings.
    text = (CONFIGS / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    assert re.search(r"^expected:", text, re.MULTILINE)
    config = composed(f"experiment={experiment}")
    values = expected_values(config["expected"])
    for each in values:
        assert SOURCE.fullmatch(each.source), each
        assert len(each.protocol) > 10
    assert len({(each.metric, each.source, each.protocol) for each in values}) == len(values)
    measured = {name for name, keys in config["metrics"].items() if isinstance(keys, dict)}
    if any(each.metric.startswith("class_iou") for each in values):
        assert measured == {"cityscapes"}
    stated = {each.metric.split("_")[0] for each in values}
    if "fid" in stated:
        assert measured == stated & {"fid", "kid", "is"}
        assert config["objective"]["metric"] in {each.metric for each in values}
        assert config["metrics"]["resize"] == "legacy"


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        (3, ("expected[0]=3", "metric: fid")),
        ({**GOOD, "value": "x"}, ("expected[0].value", "a number", "'x'")),
        ({**GOOD, "value": math.inf}, ("expected[0].value", "a number", "inf")),
        ({**GOOD, "metric": 1}, ("expected[0].metric", "text", "1")),
        ({**GOOD, "protocol": " "}, ("protocol is empty", "metric: fid")),
        ({**GOOD, "note": ""}, ("expected[0].note", "unknown key")),
        ({"metric": "fid", "value": 1}, ("expected[0].protocol is missing",)),
    ],
)
def test_a_malformed_entry_is_refused(entry: object, parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        expected_values([entry])
    assert_mentions(str(error.value), *parts)
    assert expected_in({"expected": [GOOD, entry]}) == []


def test_training_refuses_a_malformed_entry_before_torch_is_needed(capsys) -> None:
    assert main(["train", "expected=[{metric: fid, value: x, protocol: a, source: b/c}]"]) == 2
    assert_mentions(capsys.readouterr().err, "expected[0].value", "'x'")


def test_expected_values_change_neither_the_name_nor_the_computation(train) -> None:
    assert differences({"seed": 0, "expected": [GOOD]}, {"seed": 0}) == {}
    assert run_name("dcgan_digits", ["expected=[]", "seed=1"]) == "dcgan_digits_seed-1"
    train("run", "model=gan", "trainer.steps=1", "expected=[{metric: fid, value: 3, protocol: a, source: b/c}]")
    # As a run of an earlier version, which has no such key.
    assert main(["train", *TINY, "name=run", "model=gan", "~expected", "trainer.steps=2"]) == 0
    assert "expected" not in newest("run")["config"]
    assert main(["train", *TINY, "name=run", "model=gan", "trainer.steps=3"]) == 0
    assert (newest("run")["step"], newest("run")["config"]["expected"]) == (3, [])


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("arXiv:2007.15651", "https://arxiv.org/abs/2007.15651"),
        ("open-mmlab/mmagic", "https://github.com/open-mmlab/mmagic"),
        ("owner/name, issue 150", "https://github.com/owner/name/issues/150"),
    ],
)
def test_a_source_has_an_address(source: str, address: str) -> None:
    assert address_of(source) == address
