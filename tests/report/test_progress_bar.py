"""The progress bar: a short title, and fields that give way in narrow terminals."""

from __future__ import annotations

import pytest

from gantrain.report.progress_bar import LONGEST_TITLE, ProgressBar, short

FIELDS = ["data=12%", "d_fake=0.697", "d_real=0.699", "g=0.695", "img/s=100"]


def line(width: int | None, fields: list[str] = FIELDS, title: str = "dcgan_digits: ") -> str:
    return ProgressBar.format_meter(
        360, 3600, 60.0, ncols=width, prefix=title, unit="step", rate=6.0, postfix=", ".join(fields)
    )


def test_a_wide_terminal_shows_everything() -> None:
    for width in (None, 140):
        shown = line(width)
        assert all(field in shown for field in [*FIELDS, "dcgan_digits: ", " 10%|", "360/3600", "6.00step/s"])


@pytest.mark.parametrize("width", range(4, 160))
def test_a_line_fits_and_lacks_only_what_has_no_room(width: int) -> None:
    shown = line(width)
    assert len(shown) <= width
    assert " 10%" in shown
    present = [field in shown for field in FIELDS]
    assert present == sorted(present, reverse=True)  # The last ones are left out first.
    order = [*FIELDS[:1], "step/s", "dcgan_digits", "360/3600", "[09:00" if "<" not in shown else "<09:00"]
    kept = [part in shown for part in order]
    assert kept == sorted(kept)  # Whatever is less important is left out before.


@pytest.mark.parametrize("length", [1, LONGEST_TITLE, LONGEST_TITLE + 1, 127])
def test_a_title_is_short(length: int) -> None:
    assert len(short("x" * length)) == min(length, LONGEST_TITLE)


def test_a_run_without_fields_has_a_whole_line() -> None:
    assert line(100, []).endswith("step/s]")
