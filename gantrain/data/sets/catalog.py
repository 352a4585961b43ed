"""Public data sets and their URLs."""

from __future__ import annotations

_UNPAIRED = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"

_PAIRED = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"

UNPAIRED_NAMES = (
    *("ae_photos", "apple2orange", "cezanne2photo", "horse2zebra", "iphone2dslr_flower", "monet2photo"),
    *("summer2winter_yosemite", "ukiyoe2photo", "vangogh2photo"),
)

PAIRED_NAMES = ("edges2handbags", "edges2shoes", "facades", "maps", "night2day")

_BOTH = ("facades", "maps")  # Published under one name both as pairs and as two domains.

_LSUN = "http://dl.yf.io/lsun/scenes"

_CATEGORIES = (
    *("bedroom", "bridge", "church_outdoor", "classroom", "conference_room"),
    *("dining_room", "kitchen", "living_room", "restaurant", "tower"),
)

# The URL of each archive; the names of LSUN's validation archives have "val" instead of "train".
NAMES: dict[str, str] = {
    **{name: f"{_PAIRED}/{name}.tar.gz" for name in PAIRED_NAMES},
    **{name: f"{_UNPAIRED}/{name}.zip" for name in UNPAIRED_NAMES},
    **{f"{name}_unaligned": f"{_UNPAIRED}/{name}.zip" for name in _BOTH},
    **{f"lsun_{category}": f"{_LSUN}/{category}_train_lmdb.zip" for category in _CATEGORIES},
}

# Data sets that must be requested: where, and how to arrange the files.
BY_REQUEST = {
    "cityscapes": "cityscapes-dataset.com; {folder}/train and {folder}/test must then contain one image for each "
    "photo: the photo on its left half, the labels on its right",
}

USAGE = f"""\
  For model=pix2pix data=NAME:
    {", ".join(PAIRED_NAMES)}
  For model=cyclegan data=NAME:
    {", ".join(UNPAIRED_NAMES[1:5])},
    {", ".join(UNPAIRED_NAMES[5:])}
  For model=cyclegan data=unaligned data.root=datasets/NAME:
    {", ".join(f"{name}_unaligned" for name in _BOTH)}
  Photographs to test with:
    ae_photos
  For data=NAME, into datasets/lsun; tens of gigabytes each:
    {", ".join(f"lsun_{name}" for name in _CATEGORIES[:5])},
    {", ".join(f"lsun_{name}" for name in _CATEGORIES[5:])}
"""
