"""Optimizers, learning rate schedules, moving averages and updates. Importing this registers the first two."""

from gantrain.optim import optimizers, schedules

__all__ = ["optimizers", "schedules"]
