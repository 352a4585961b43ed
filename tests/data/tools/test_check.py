"""Statistics of data sets, and defects of all images together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_check import SMALL, check, findings, row, save, two_domains

from gantrain.data.tools.check import findings_in, in_bytes


def test_a_valid_data_set_is_counted_and_measured() -> None:
    two_domains()
    save("set/trainA/wide.png", 50, size=(20, 40))
    save("set/testB/9.png", 51, size=(10, 16))
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 0
    assert findings(printed) == {}
    assert printed.splitlines()[0].split() == ["train", "A", "train", "B", "test", "A", "test", "B"]
    assert row(printed, "images") == ["4", "3", "3", "4"]
    assert row(printed, "unreadable") == ["0", "0", "0", "0"]
    assert row(printed, "height") == ["10 .. 10 .. 20", "10", "10", "10"]
    assert row(printed, "width") == ["12 .. 12 .. 40", "12", "12", "12 .. 12 .. 16"]
    assert row(printed, "width / height") == ["1.2 .. 1.2 .. 2", "1.2", "1.2", "1.2 .. 1.2 .. 1.6"]
    assert row(printed, "sizes") == ["2 different", "all equal", "all equal", "2 different"]
    assert row(printed, "channels") == ["3"] * 4
    assert row(printed, "depth") == ["uint8"] * 4
    stored = sum(path.stat().st_size for path in Path("set/trainB").iterdir())
    assert row(printed, "stored")[1] == in_bytes(stored)
    # 8 x 8 x 3 bytes for each
    assert row(printed, "cached, disk or memory") == ["768 B", "576 B", "576 B", "768 B"]
    assert printed.endswith("page: results/data_unaligned/index.html\n")


def test_the_size_of_a_cache_depends_on_mode_and_depth() -> None:
    for number in range(2):
        save(f"gray/{number}.png", number, size=(16, 24), channels=1, depth=np.uint16)
    # A shorter side of 8 gives 8 x 12 values of two bytes.
    _, printed = check("data=single", "data.root=gray", "data.channels=1", *SMALL)
    assert row(printed, "cached, disk or memory") == ["384 B"]
    assert row(printed, "depth") == ["uint16"]
    # With a range, four bytes.
    _, printed = check("data=single", "data.root=gray", "data.channels=1", "data.range=[0,4095]", *SMALL)
    assert row(printed, "cached, disk or memory") == ["768 B"]
    save("pairs/train/1.png", 0, size=(16, 32))
    # Two halves of 8 x 8 x 3.
    _, printed = check("data=aligned", "data.root=pairs", *SMALL)
    assert row(printed, "cached, disk or memory") == ["384 B"]
    # Both halves in 8 x 8 x 3 and in 8 x 8 x 1, although one half of each is never used.
    _, printed = check("data=aligned", "data.root=pairs", "data.channels_b=1", *SMALL)
    assert row(printed, "cached, disk or memory") == ["512 B"]


def test_few_bad_images_that_training_skips_do_not_stop_it() -> None:
    for number in range(20):
        save(f"set/{number}.png", number)
    Path("set/broken.png").write_bytes(b"")
    words = ["data=single", "data.root=set", *SMALL]
    assert check(*words)[0] == 1
    status, printed = check(*words, "data.on_error=skip")
    assert status == 0
    assert "warning: train: images that can't be read or converted: 1" in findings(printed)
    for name in ("second", "third"):  # More than one in ten.
        Path(f"set/{name}.png").write_bytes(b"")
    assert check(*words, "data.on_error=skip")[0] == 1


def test_bad_images_of_both_domains_count_together_as_in_training() -> None:
    two_domains(count=20)
    words = ["data=unaligned", "data.root=set", "data.on_error=skip", *SMALL]
    for name in ("trainA/3", "trainB/7"):
        Path(f"set/{name}.png").write_bytes(b"")
    assert check(*words)[0] == 0
    Path("set/trainB/9.png").write_bytes(b"")
    status, printed = check(*words)
    assert status == 1
    assert [line.partition(":")[0] for line in findings(printed)] == ["would stop training"] * 2


def test_too_many_consecutive_bad_images_stop_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gantrain.data.tools.check.MAX_CONSECUTIVE_ERRORS", 3)
    for number in range(40):
        save(f"set/{number:02}.png", number)
    words = ["data=single", "data.root=set", "data.on_error=skip", *SMALL]
    for number, status in ((10, 0), (11, 0), (13, 0), (12, 1)):
        Path(f"set/{number}.png").write_bytes(b"")
        assert check(*words)[0] == status


def test_bad_test_images_are_skipped_if_any_is_good() -> None:
    two_domains()
    words = ["data=unaligned", "data.root=set", "data.on_error=skip", *SMALL]
    for number, status in ((0, 0), (1, 0), (2, 1)):
        Path(f"set/testA/{number}.png").write_bytes(b"")
        assert check(*words)[0] == status


def test_pairs_that_would_get_different_sizes_are_named() -> None:
    for number in range(3):
        save(f"set/A/{number}.png", number)
        save(f"set/B/{number}.png", 10 + number, size=(10, 12 + 6 * (number == 1)))
    words = ["data=aligned", "data.root=set", *SMALL]
    assert check(*words)[0] == 0
    status, printed = check(*words, "data.preprocess=scale_shortside_and_crop")
    assert status == 1
    found = findings(printed)
    line = "train: pairs scaled to different sizes, which data.preprocess=resize_and_crop would make equal: 1"
    assert found[f"would stop training: {line}"] == ["set/A/1.png [8, 10] and set/B/1.png [8, 14]"]
    # Like any other bad image.
    status, printed = check(*words, "data.preprocess=scale_shortside_and_crop", "data.on_error=skip")
    assert status == 0
    assert f"warning: {line}" in findings(printed)


def test_images_smaller_than_the_crop_stop_training_unless_scaled_up() -> None:
    save("set/0.png", 0, size=(8, 8))
    save("set/1.png", 1, size=(6, 12))
    words = ["data=single", "data.root=set", *SMALL]
    status, printed = check(*words, "data.preprocess=crop")
    assert status == 1
    (complaint,) = findings(printed)["would stop training: train: images that can't be cropped: 1"]
    for part in ("set/1.png ([6, 12] pixels)", "data.crop_size ([8, 8])"):
        assert part in complaint
    status, printed = check(*words)
    assert status == 0
    line = "warning: train: images smaller than data.crop_size, which are scaled up: 1"
    assert findings(printed)[line] == ["set/1.png"]


def test_images_of_different_sizes_need_a_batch_size_of_1() -> None:
    for number in range(3):
        save(f"set/{number}.png", number, size=(8, 12 + 8 * (number == 1)))
    words = ["data=single", "data.root=set", *SMALL]
    assert check(*words, "data.batch_size=2")[0] == 0  # All are cropped.
    words.append("data.preprocess=none")
    assert check(*words, "data.batch_size=1")[0] == 0
    for more in ([], ["data.on_error=skip"], ["quick=true"]):
        status, printed = check(*words, "data.batch_size=2", *more)
        assert status == 1
        line = "would stop training: train: images have 2 different sizes, and data.batch_size=2: choose a "
        assert findings(printed)[f"{line}data.preprocess that crops, or data.batch_size=1"] == [
            "[8, 12]: 2",
            "[8, 20]: 1",
        ]


@pytest.mark.parametrize("data", ["single", "unaligned"])
def test_a_requested_cache_beyond_its_limit_stops_training(data: str) -> None:
    two_domains()  # 8 x 8 x 3 bytes each
    words = [f"data={data}", "data.root=" + ("set/trainA" if data == "single" else "set"), *SMALL, "data.batch_size=1"]
    words += ["data.preprocess=resize_and_crop"]
    needed = 576 if data == "single" else 1152
    for mode in ("disk", "memory"):
        assert check(*words, f"data.cache={mode}", f"data.cache_limit={needed / 1e9}")[0] == 0
        status, printed = check(*words, f"data.cache={mode}", "data.cache_limit=5e-7")
        assert status == 1
        size = "576 B" if data == "single" else "1.15 KB"
        line = f"would stop training: data.cache={mode} takes {size}, and data.cache_limit is 5e-07 GB: "
        assert f"{line}raise it to 1, or set data.cache=off" in findings(printed)
    for mode in ("auto", "off"):
        assert check(*words, f"data.cache={mode}", "data.cache_limit=5e-7")[0] == 0


def test_duplicates_are_found_within_and_between_parts() -> None:
    two_domains()
    for source, copy in (
        ("trainA/0", "trainA/c"),
        ("trainA/1", "trainB/c"),
        ("trainB/2", "testB/c"),
        ("testA/0", "testB/d"),
    ):
        Path(f"set/{copy}.png").write_bytes(Path(f"set/{source}.png").read_bytes())
    for name in ("x", "y"):
        Path(f"set/trainA/{name}.png").write_bytes(b"")  # Empty files are not duplicates.
    status, printed = check("data=unaligned", "data.root=set", *SMALL)
    assert status == 1
    assert {line: items for line, items in findings(printed).items() if line.startswith("warning")} == {
        "warning: files that are both in training and test: 1": ["set/trainB/2.png = set/testB/c.png"],
        "warning: files that are in both domains: 2": [
            "set/trainA/1.png = set/trainB/c.png",
            "set/testA/0.png = set/testB/d.png",
        ],
        "warning: files that exist more than once: 1": ["set/trainA/0.png = set/trainA/c.png"],
    }


def test_classes_are_counted_and_a_rare_one_is_reported() -> None:
    for phase, counts in (("train", {"cat": 20, "dog": 2}), ("test", {"cat": 1, "dog": 2})):
        for name, count in counts.items():
            for number in range(count):
                save(f"set/{phase}/{name}/{number}.png", hash((phase, name, number)) % 10**6)
    status, printed = check("data=single", "data.root=set", *SMALL)
    assert status == 0
    assert "classes, train: cat 20, dog 2\nclasses, test: cat 1, dog 2\n" in printed
    assert findings(printed) == {"warning: train: 20 images of cat, 2 of dog": []}


def test_classes_with_a_single_image_are_listed() -> None:
    for number, name in enumerate(("cat/0", "cat/1", "dog/0", "owl/0")):
        save(f"set/{name}.png", number)
    _, printed = check("data=single", "data.root=set", *SMALL, "quick=true")
    assert findings(printed)["warning: train: classes with at most one image, too few to learn: 2"] == ["dog", "owl"]


def test_no_finding_without_images() -> None:
    assert findings_in([], {}) == []


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (1234567, "1.23 MB"), (43e9, "43 GB")]
)
def test_bytes_have_readable_units(count: int, text: str) -> None:
    assert in_bytes(int(count)) == text
