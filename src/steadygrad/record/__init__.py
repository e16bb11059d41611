"""Records of runs: one SQLite file per run, written during training and read back.

A `Record` writes, a `Run` reads; both may hold the same file at once. Nothing here knows a model:
values are numbers, arrays and JSON, so a record can be read on any machine, without torch.
"""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.record.errors import EmptyRecordError as EmptyRecordError
from steadygrad.record.errors import RecordError as RecordError
from steadygrad.record.reader import Run as Run
from steadygrad.record.reader import read as read
from steadygrad.record.results import Results as Results
from steadygrad.record.writer import Record as Record

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
