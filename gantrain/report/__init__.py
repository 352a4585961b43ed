"""What people look at: logs, images and pages."""

from gantrain.report.run import Report

__all__ = ["Report"]
