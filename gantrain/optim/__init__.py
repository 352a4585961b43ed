"""Optimizers, learning rate schedules and moving averages. Importing this registers the first two."""

from gantrain.optim import schedules, updates

__all__ = ["schedules", "updates"]
