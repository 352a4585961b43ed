"""Where else losses and pictures may go, beside the run folder: one file each, and the thread that serves them."""

from gantrain.report.loggers import csv, mlflow, tensorboard, visdom, wandb  # noqa: F401 - these file their classes
from gantrain.report.loggers.base import Logger, build_loggers
from gantrain.report.loggers.delivery import Delivery, end_all

__all__ = ["Delivery", "Logger", "build_loggers", "end_all"]
