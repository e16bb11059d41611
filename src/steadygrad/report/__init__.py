"""Reports drawn from records alone: one HTML page, one picture."""

from steadygrad.report.page import html as html
from steadygrad.report.page import write as write
from steadygrad.report.picture import picture as picture

__all__ = ["html", "picture", "write"]
