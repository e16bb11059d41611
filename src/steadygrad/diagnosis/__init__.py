"""From measurements to findings to remedies: one look, or a watch over a training."""

from steadygrad.diagnosis.diagnose import Diagnosis as Diagnosis
from steadygrad.diagnosis.diagnose import diagnose as diagnose
from steadygrad.diagnosis.faults import FAULTS as FAULTS
from steadygrad.diagnosis.faults import Fault as Fault
from steadygrad.diagnosis.finding import Finding as Finding
from steadygrad.diagnosis.finding import Thresholds as Thresholds
from steadygrad.diagnosis.trials import Trial as Trial
from steadygrad.diagnosis.trials import trials as trials
from steadygrad.diagnosis.watch import Watch as Watch
from steadygrad.diagnosis.watch import watch as watch
