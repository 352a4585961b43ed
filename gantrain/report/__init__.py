"""What people look at: logs, pictures and pages."""

from gantrain.report.run import Report
from gantrain.training.means import Means

__all__ = ["Means", "Report"]
