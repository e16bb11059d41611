"""Gradients through time in recurrent networks: measured, named, repaired."""

from collections.abc import Iterable as _Iterable
from collections.abc import Sequence as _Sequence
from pathlib import Path as _Path
from typing import TYPE_CHECKING

from steadygrad import _drawing
from steadygrad._room import on_first_use
from steadygrad._version import __version__ as __version__

if TYPE_CHECKING:
    from steadygrad import cells as cells
    from steadygrad import deploy as deploy
    from steadygrad import flow as flow
    from steadygrad import init as init
    from steadygrad import learn as learn
    from steadygrad import nn as nn
    from steadygrad import remedies as remedies
    from steadygrad import report as report
    from steadygrad import tasks as tasks
    from steadygrad.deploy import load as load
    from steadygrad.diagnosis import ClipAdvice as ClipAdvice
    from steadygrad.diagnosis import Diagnosis as Diagnosis
    from steadygrad.diagnosis import Finding as Finding
    from steadygrad.diagnosis import Thresholds as Thresholds
    from steadygrad.diagnosis import Watch as Watch
    from steadygrad.diagnosis import clip_advice as clip_advice
    from steadygrad.diagnosis import clip_check as clip_check
    from steadygrad.diagnosis import diagnose as diagnose
    from steadygrad.diagnosis import repair as repair
    from steadygrad.diagnosis import watch as watch
    from steadygrad.flow import mark as mark
    from steadygrad.nn import GRU as GRU
    from steadygrad.nn import LSTM as LSTM
    from steadygrad.nn import RNN as RNN
    from steadygrad.nn import Recurrent as Recurrent
    from steadygrad.nn import Stream as Stream
    from steadygrad.report.compare_runs import compare as compare
else:
    # The same names by their modules, imported on first use: importing torch and all rooms takes
    # seconds, which `steadygrad --version`, or a program that only reads a record, should not
    # spend.
    _HOMES = {
        **{
            room: room
            for room in (
                "cells",
                "deploy",
                "flow",
                "init",
                "learn",
                "nn",
                "remedies",
                "report",
                "tasks",
            )
        },
        "load": "deploy",
        "mark": "flow",
        "compare": "report.compare_runs",
        **dict.fromkeys(("GRU", "LSTM", "RNN", "Recurrent", "Stream"), "nn"),
        **dict.fromkeys(("ClipAdvice", "Diagnosis", "Finding", "Thresholds", "Watch"), "diagnosis"),
        **dict.fromkeys(("clip_advice", "clip_check", "diagnose", "repair", "watch"), "diagnosis"),
    }
    __getattr__, __all__, __dir__ = on_first_use(__name__, _HOMES)


def _draw(record: _Path, page: _Path) -> _Path:
    from steadygrad import report
    from steadygrad.record import read

    with read(record) as run:
        return report.write(run, page)


def _fragment(record: _Path) -> str:
    from steadygrad.record import read
    from steadygrad.report.notebook import fragment

    with read(record) as run:
        return fragment(run)


def _grid(results: _Path) -> str:
    from steadygrad.report.notebook import grid

    return grid(results)


def _table(head: _Sequence[str], rows: _Iterable[_Sequence[object]]) -> str:
    from steadygrad.report.notebook import plain_table

    return plain_table(head, rows)


def _serve(records: _Sequence[_Path], port: int, trainer: str | None) -> _drawing.Served:
    from steadygrad.board import Board
    from steadygrad.board.cures import fork_command

    return Board(records, port, cure=None if trainer is None else fork_command(trainer)).start()


_drawing.use(_drawing.Tools(_draw, _fragment, _grid, _table, _serve))
