"""What is learnt: one file per task, each with its data, its measure and its naive answers."""

from steadygrad.tasks.base import Batch as Batch
from steadygrad.tasks.base import Batches as Batches
from steadygrad.tasks.base import InputError as InputError
from steadygrad.tasks.base import Score as Score
from steadygrad.tasks.base import Split as Split
from steadygrad.tasks.base import Task as Task
from steadygrad.tasks.forecast import Forecast as Forecast
from steadygrad.tasks.from_csv import read_forecast as read_forecast
from steadygrad.tasks.pixels import Pixels as Pixels
from steadygrad.tasks.pixels import read_pixels as read_pixels
from steadygrad.tasks.text import Text as Text
from steadygrad.tasks.text import read_text as read_text
