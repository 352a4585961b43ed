"""Where else losses and images may go, beside the run folder: one file each, and the thread that serves them."""

from gantrain.report.loggers import csv, mlflow, tensorboard, visdom, wandb  # noqa: F401 - these file their classes
from gantrain.report.loggers.base import Logger, build_loggers
from gantrain.report.loggers.delivery import AsyncLogger, end_all

__all__ = ["AsyncLogger", "Logger", "build_loggers", "end_all"]
