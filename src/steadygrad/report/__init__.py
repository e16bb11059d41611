"""Reports drawn from records alone: an HTML page, a picture, a line chart."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.report.chart_file import lines as lines
from steadygrad.report.page import html as html
from steadygrad.report.page import write as write
from steadygrad.report.picture import picture as picture
from steadygrad.report.plot import Line as Line
from steadygrad.report.plot import Plot as Plot

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
