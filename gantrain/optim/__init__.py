"""Optimizers, learning rate schedules and moving averages. Importing this registers the first two."""

from gantrain.optim import optimizers, schedules

__all__ = ["optimizers", "schedules"]
