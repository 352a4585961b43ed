"""What people look at: logs, pictures and pages."""

from gantrain.report.means import Means
from gantrain.report.run import Report

__all__ = ["Means", "Report"]
