"""Classes whose constructors are configured."""

from __future__ import annotations

from typing import Any


class Parent:
    def __init__(self, *, spec: str, width: int, rate: float) -> None:
        self.spec, self.width, self.rate = spec, width, rate


class Child(Parent):
    """It inherits the keys of its parent."""

    def __init__(self, *, depth: int, **others: Any) -> None:
        super().__init__(**others)
        self.depth = depth
