"""The report: figures and one self-contained HTML page."""

from pertscale.report.page import write_report

__all__ = ["write_report"]
