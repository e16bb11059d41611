"""Tasks: one file each, with its data, its measure and its naive answers."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.tasks.adding import Adding as Adding
from steadygrad.tasks.associative_recall import AssociativeRecall as AssociativeRecall
from steadygrad.tasks.base import Batch as Batch
from steadygrad.tasks.base import Batches as Batches
from steadygrad.tasks.base import Margin as Margin
from steadygrad.tasks.base import Score as Score
from steadygrad.tasks.base import Sizes as Sizes
from steadygrad.tasks.base import Split as Split
from steadygrad.tasks.base import Task as Task
from steadygrad.tasks.benchmark import Benchmark as Benchmark
from steadygrad.tasks.bucket_sort import BucketSort as BucketSort
from steadygrad.tasks.chorales import Chorales as Chorales
from steadygrad.tasks.copy_memory import CopyMemory as CopyMemory
from steadygrad.tasks.cycle_navigation import CycleNavigation as CycleNavigation
from steadygrad.tasks.delayed_xor import DelayedXOR as DelayedXOR
from steadygrad.tasks.even_pairs import EvenPairs as EvenPairs
from steadygrad.tasks.file_summary import understood as understood
from steadygrad.tasks.forecast import Forecast as Forecast
from steadygrad.tasks.forecast_spec import ForecastSpec as ForecastSpec
from steadygrad.tasks.from_table import read_forecast as read_forecast
from steadygrad.tasks.fuzzy_sets import FuzzySets as FuzzySets
from steadygrad.tasks.lag_estimate import LagEstimate as LagEstimate
from steadygrad.tasks.lag_estimate import estimate_lag as estimate_lag
from steadygrad.tasks.language_model import LanguageModel as LanguageModel
from steadygrad.tasks.mackey_glass import MackeyGlass as MackeyGlass
from steadygrad.tasks.memorisation import Memorisation as Memorisation
from steadygrad.tasks.mnist import PixelMNIST as PixelMNIST
from steadygrad.tasks.multiplication import Multiplication as Multiplication
from steadygrad.tasks.narma import NARMA as NARMA
from steadygrad.tasks.ocr_lines import OCRLines as OCRLines
from steadygrad.tasks.parity import Parity as Parity
from steadygrad.tasks.permutation import RandomPermutation as RandomPermutation
from steadygrad.tasks.pixels import Pixels as Pixels
from steadygrad.tasks.reverse_string import ReverseString as ReverseString
from steadygrad.tasks.selective_copy import SelectiveCopy as SelectiveCopy
from steadygrad.tasks.series_classes import SeriesClasses as SeriesClasses
from steadygrad.tasks.series_forecast import SeriesForecast as SeriesForecast
from steadygrad.tasks.strokes import Strokes as Strokes
from steadygrad.tasks.synthetic import Synthetic as Synthetic
from steadygrad.tasks.system_id import SystemID as SystemID
from steadygrad.tasks.temporal_order import TemporalOrder as TemporalOrder
from steadygrad.tasks.text import Text as Text
from steadygrad.tasks.text import read_text as read_text

TASKS: dict[str, type[Benchmark]] = {
    value.name: value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Benchmark) and hasattr(value, "name")
}
"""Every task of the proving ground, by its command line name."""

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
