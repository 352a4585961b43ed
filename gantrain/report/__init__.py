"""Logs, images and pages of a run."""

from gantrain.report.run import Report

__all__ = ["Report"]
