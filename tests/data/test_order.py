"""The order of items, with classes drawn equally often or as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import batches
import pytest
from conftest import TINY, assert_same_bits, newest, stop_after
from translated import image

from gantrain.cli.main import main
from gantrain.data.base import Selection
from gantrain.data.order import balanced, class_counts, epochs
from gantrain.data.sets.digits import Digits
from gantrain.data.stream import BatchStream

LABELS = [0] * 7 + [3] * 2 + [1] * 4  # Of 13 items; there is no image of class 2.


def test_each_round_has_every_class_once_in_an_order_of_its_own() -> None:
    order = balanced(LABELS, seed=5)
    drawn = [LABELS[order(position)[1]] for position in range(300)]
    rounds = [tuple(drawn[start : start + 3]) for start in range(0, 300, 3)]
    assert all(sorted(each) == [0, 1, 3] for each in rounds)
    assert len(set(rounds)) == 6


def test_all_items_of_a_class_are_drawn_before_one_is_repeated() -> None:
    order = balanced(LABELS, seed=5)
    drawn = [order(position) for position in range(3 * 7 * 4 * 2)]
    for label, count in Counter(LABELS).items():
        own = [(epoch, index) for epoch, index in drawn if LABELS[index] == label]
        assert len(own) == 56
        passes = [own[start : start + count] for start in range(0, 56, count)]
        expected = [index for index, each in enumerate(LABELS) if each == label]
        for number, each in enumerate(passes):
            assert sorted(each) == [(number, index) for index in expected]
        assert len({tuple(index for _, index in each) for each in passes}) > 1


def test_crops_of_an_item_differ_whenever_it_is_drawn_again() -> None:
    drawn = [balanced(LABELS, seed=5)(position) for position in range(200)]
    assert len(set(drawn)) == 200


@pytest.mark.parametrize("make", [lambda seed: balanced(LABELS, seed), lambda seed: epochs(13, seed)])
def test_an_order_depends_on_its_seed_and_place_alone(make: Callable) -> None:
    whole = [make(5)(position) for position in range(60)]
    one = make(5)
    assert [one(position) for position in range(59, -1, -1)] == whole[::-1]
    assert [make(6)(position) for position in range(60)] != whole
    assert [make(None)(position)[1] for position in range(60)] == [make(None)(position)[1] for position in range(60)]


def unbalanced() -> BatchStream:
    digits = Digits(load_size=16, phase="train")
    kept = [index for index, label in enumerate(digits.labels or ()) if label != 3 or index % 20 == 0]
    return batches.stream(Selection(digits, kept), batch_size=20, balance=True)


def test_a_balanced_stream_resumes_and_is_cut_into_slices() -> None:
    whole = [batch["label"].tolist() for batch in islice(unbalanced(), 6)]
    assert all(Counter(labels) == dict.fromkeys(range(10), 2) for labels in whole)
    later = unbalanced()
    later.go_to(4, rollbacks=0)
    assert [batch["label"].tolist() for batch in islice(later, 2)] == whole[4:]


@pytest.fixture
def folders() -> str:
    for name, count in (("few", 2), ("many", 9)):
        for number in range(count):
            image(Path(f"classes/{name}/{number}.png"), 16, 16)
    return "data.root=classes"


def test_a_balanced_run_resumes_bit_identically(folders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["train", *TINY, "model=cgan", "data=single", folders, "data.crop_size=16", "data.balance=true"]
    typed += ["trainer.steps=5", "data.num_workers=0"]
    assert main([*typed, "name=whole"]) == 0
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert main([*typed, "name=cut"]) == 130
    assert main([*typed, "name=cut"]) == 0
    for key in ("model", "updates", "position"):
        assert_same_bits(newest("cut")[key], newest("whole")[key])
    assert main([*typed, "name=other", "data.balance=false"]) == 0
    assert newest("other")["position"] == newest("whole")["position"]
    with pytest.raises(AssertionError):
        assert_same_bits(newest("other")["model"], newest("whole")["model"])
    assert "few: 2, many: 9" in Path("checkpoints/whole/index.html").read_text()


def test_what_cannot_be_balanced_is_refused(folders: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "no labels": ["data=single", f"{folders}/few", "data.crop_size=16"],
        "data.labelled": ["model=sgan", "data=digits", "data.labelled=20"],
        "one class": ["data=single", folders, "data.crop_size=16", "data.max_size=2"],
    }
    for words, typed in cases.items():
        assert main(["train", *TINY[1:], *typed, "data.load_size=16", "data.balance=true"]) == 2
        message = capsys.readouterr().err
        assert "data.balance=true" in message
        assert words in message


def test_counts_of_many_classes_are_summed_up() -> None:
    names = [f"class {number}" for number in range(30)]
    labels = [number for number in range(30) for _ in range(number + 2)]
    assert class_counts(labels, names) == "30, of 2 (class 0) to 31 (class 29) images"
    assert class_counts([0, 1, 1], ["a", "b", "c"]) == "a: 1, b: 2, c: 0"
