"""Where losses and images may go besides the run folder: one file for each logger, and the thread that calls them."""

from gantrain.report.loggers import csv, mlflow, tensorboard, visdom, wandb  # noqa: F401 - these register their classes
from gantrain.report.loggers.async_logger import AsyncLogger, end_all
from gantrain.report.loggers.base import Logger, build_loggers

__all__ = ["AsyncLogger", "Logger", "build_loggers", "end_all"]
