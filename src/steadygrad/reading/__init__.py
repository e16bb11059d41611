"""People's files: tables in any common form and encoding, understood once and told in full."""

from typing import TYPE_CHECKING

from steadygrad._room import on_first_use

if TYPE_CHECKING:
    from steadygrad.reading.options import Reading as Reading
    from steadygrad.reading.spec import ColumnSpec as ColumnSpec
    from steadygrad.reading.spec import TableSpec as TableSpec
    from steadygrad.reading.table import Table as Table
    from steadygrad.reading.table import read_frame as read_frame
    from steadygrad.reading.table import read_table as read_table
else:
    # The help of the command line reads the options, and must not wait for numpy.
    _HOMES = {
        "Reading": "options",
        **dict.fromkeys(("ColumnSpec", "TableSpec"), "spec"),
        **dict.fromkeys(("Table", "read_frame", "read_table"), "table"),
    }
    __getattr__, __all__, __dir__ = on_first_use(__name__, _HOMES)
