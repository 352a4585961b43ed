"""Hundreds of malformed images, read as in training: either read correctly or refused in one line with the name.

They are read in another process with limited memory and time, which none of them may crash.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import malformed_images
from malformed_images import DECODERS, good, make
from warm import Warm

MAX_GROWTH = 1_000_000  # kilobytes, of the reading process
Outcomes: TypeAlias = dict[tuple[str, str], dict[str, Any]]  # by file name, and decoder or "header"


def test_malformed_images_are_refused_or_decoded_identically(warm: Warm, tmp_path: Path) -> None:
    outcomes = outcomes_in(warm, tmp_path / "images")  # Once for all checks: it takes seconds.
    assert_each_is_read_or_refused_by_name(outcomes)
    assert_intact_images_are_read_with_any_suffix(outcomes)
    assert_truncated_images_are_refused(outcomes)
    assert_bombs_empty_and_foreign_files_are_refused(outcomes)
    assert_single_pixels_and_rows_are_read(outcomes)
    assert_corrupt_exif_does_not_rotate(outcomes)


def outcomes_in(warm: Warm, folder: Path) -> Outcomes:
    """The outcome of each file with each decoder, and with the reader of headers."""
    names = make(folder)
    assert len(names) - len(good()) > 300
    done = warm.run([malformed_images.__file__, str(folder)])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-500:])
    assert "warn" not in done.stderr
    assert lines.pop()["grown"] < MAX_GROWTH
    found = {(line["name"], line["decoder"]): line for line in lines if len(line) > 2}
    assert found.keys() == {(name, decoder) for name in names for decoder in ("header", *DECODERS)}
    return found


def of(outcomes: Outcomes, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, decoder and outcome of the images whose names begin with one of these."""
    found = [(*key, line) for key, line in outcomes.items() if key[0].startswith(kinds) and key[1] != "header"]
    assert found
    return found


def assert_each_is_read_or_refused_by_name(outcomes: Outcomes) -> None:
    for (name, _), line in outcomes.items():
        assert len({"error", "digest", "header"}.intersection(line)) == 1, line
        if "error" in line:
            assert name in line["error"], line
            assert "\n" not in line["error"]
            assert len(line["error"]) < 700, line
        elif "digest" in line:
            assert line["shape"] == [3, 16, 16]


def assert_intact_images_are_read_with_any_suffix(outcomes: Outcomes) -> None:
    for decoder in DECODERS:
        same = [
            name for name in good() if name.startswith(("plain", "lzw", "deflated")) and name[6:] not in ("jpg", "gif")
        ]
        assert len({outcomes[name, decoder]["digest"] for name in same}) == 1  # They store the same image without loss.
    for name, decoder, line in of(outcomes, "renamed_"):
        original = next(there for there in good() if name.startswith(f"renamed_{there.replace('.', '_')}."))
        assert line.get("digest") == outcomes[original, decoder]["digest"], line


def assert_truncated_images_are_refused(outcomes: Outcomes) -> None:
    cut = of(outcomes, "cut_")
    for name, decoder, line in cut:
        whole = outcomes[name.split("_", 2)[2], decoder]
        assert "error" in line or line["digest"] == whole["digest"], line  # More than pixels is at the end of a PNG.
    assert sum("error" in line for _, _, line in cut) > 0.9 * len(cut)


def assert_bombs_empty_and_foreign_files_are_refused(outcomes: Outcomes) -> None:
    for *_, line in of(outcomes, "bomb", "nothing", "flat_", "thin_", "foreign_"):
        assert "error" in line, line
    for *_, line in of(outcomes, "foreign_eps"):  # Pillow would start Ghostscript.
        assert "this is not an image, or its format is unknown" in line["error"]
    for *_, line in of(outcomes, "nothing.npy"):
        assert "its shape is (0, 24, 3), not" in line["error"]
    for *_, line in of(outcomes, "bomb_channels"):
        assert "could be an attack" in line["error"]


def assert_single_pixels_and_rows_are_read(outcomes: Outcomes) -> None:
    for *_, line in of(outcomes, "shape_", "long_"):
        assert "digest" in line, line


def assert_corrupt_exif_does_not_rotate(outcomes: Outcomes) -> None:
    for name, decoder, line in of(outcomes, "exif_"):
        assert line.get("digest") == outcomes[f"plain{Path(name).suffix}", decoder]["digest"], line
        assert outcomes[name, "header"]["header"] == [20, 24, 3, "uint8"]
