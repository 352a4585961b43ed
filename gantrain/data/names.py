"""Names of files, classes and phases: which are ignored, which are equal, and in which order they are."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

# Folders and files that systems and programs create beside images, in lower case.
IGNORED = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)
# The usual names of the folder of a phase, in lower case and without separators.
SPELLINGS = {
    "train": ("train", "training", "trn", "trainset", "trainingset"),
    "test": ("test", "testing", "tst", "testset", "testingset"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation", "valset", "validset", "validationset"),
}


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is never read: it is hidden, or a system has created it."""
    return name.startswith(".") or name.lower() in IGNORED


def nfc(name: str) -> str:
    """The name in Unicode's composed form: macOS stores decomposed characters, most other systems composed ones."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def natural_key(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """The key to sort names in natural order: ``2`` before ``10``, ``v2`` before ``v10``."""
    parts = re.split(r"([0-9]+)", nfc(name))
    digits = [part.lstrip("0") for part in parts]  # A longer number is a larger one.
    return [(len(digits[i]), digits[i]) if i % 2 else part for i, part in enumerate(parts)], name


def in_order(names: Iterable[str]) -> list[str]:
    """The different names in natural order; of those that differ only in their Unicode form, the first."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(nfc(name), name)
    return sorted(first.values(), key=natural_key)


def plain(name: str) -> str:
    """A name in lower case and without separators: ``trainseta`` for ``Train_Set-A``."""
    return re.sub(r"[ _.-]", "", nfc(name)).lower()


def phase_of(name: str) -> str:
    """The phase (a key of ``SPELLINGS``) for which this is a usual name, or else the name itself."""
    return next((phase for phase, names in SPELLINGS.items() if plain(name) in names), name)


def fingerprint_of(names: Iterable[str]) -> str:
    """A hexadecimal hash of the names, 16 digits long."""
    digest = hashlib.blake2b(digest_size=8)
    between = ""
    for name in names:  # Joining a million names would need three times their memory.
        digest.update(f"{between}{name}".encode("utf-8", "surrogateescape"))
        between = "\n"
    return digest.hexdigest()
