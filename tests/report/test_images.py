"""Grids of images, and the image files of a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from gantrain.report.images import (
    compose_grids,
    grid,
    image_entries,
    read_layout,
    sample_images,
    save_with_layout,
    to_image,
    viewable,
)


def test_a_grid_for_each_kind_or_one_for_all() -> None:
    visuals = {"real": torch.zeros(5, 1, 8, 6), "fake": torch.ones(5, 3, 8, 6)}
    grids = compose_grids(visuals, 2)
    assert {kind: image.size for kind, (image, _) in grids.items()} == {"real": (18, 32), "fake": (18, 32)}
    assert grids["fake"][1] == {"columns": 2, "rows": 3, "width": 6, "height": 8, "gap": 2}
    ((name, (image, layout)),) = compose_grids(visuals, None).items()
    assert (name, image.size, image.mode) == ("real-fake", (18, 52), "RGB")
    assert layout == {"kinds": ["real", "fake"], "columns": 2, "rows": 5, "width": 6, "height": 8, "gap": 2}
    assert [image.getpixel((x, 4)) for x in (4, 12)] == [(128, 128, 128), (255, 255, 255)]


def test_layouts_are_stored_in_the_files_and_listed_by_step() -> None:
    folder = Path("run/images")
    folder.mkdir(parents=True)
    for step in (20, 3):
        save_with_layout(folder / f"step_{step}_a b.png", Image.new("L", (4, 4)), {"columns": step})
    Image.new("L", (4, 4)).save(folder / "step_x_old.png")
    (folder / "step_7_broken.png").write_text("no image")
    assert [step for _, step in sample_images(Path("run"))] == [3, 7, 20]
    entries = image_entries(Path("run"))
    assert entries[0] == {"step": 3, "what": "a b", "url": "images/step_3_a%20b.png", "columns": 3}
    assert entries[1] == {"step": 7, "what": "broken", "url": "images/step_7_broken.png"}
    assert read_layout(folder / "step_x_old.png") == {}


@pytest.mark.parametrize(("channels", "expected"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3)])
def test_images_with_other_channels_are_viewable(channels: int, expected: int) -> None:
    images = torch.zeros(2, channels, 4, 4)
    assert viewable(images).shape == (2, expected, 4, 4)
    mode = {1: "L", 3: "RGB"}[expected]
    assert (to_image(images[0]).mode, grid(images, 2).mode) == (mode, mode)
