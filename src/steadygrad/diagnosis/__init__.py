"""From measurements to findings to remedies: one look, or a watch over a training."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.diagnosis.check import Checked as Checked
from steadygrad.diagnosis.check import check as check
from steadygrad.diagnosis.clip_advice import ClipAdvice as ClipAdvice
from steadygrad.diagnosis.clip_advice import clip_advice as clip_advice
from steadygrad.diagnosis.clip_advice import share_clipped as share_clipped
from steadygrad.diagnosis.clip_check import ClipCheck as ClipCheck
from steadygrad.diagnosis.clip_check import MisplacedClip as MisplacedClip
from steadygrad.diagnosis.clip_check import MisplacedClipWarning as MisplacedClipWarning
from steadygrad.diagnosis.clip_check import clip_check as clip_check
from steadygrad.diagnosis.diagnose import Diagnosis as Diagnosis
from steadygrad.diagnosis.diagnose import diagnose as diagnose
from steadygrad.diagnosis.explain import Explanation as Explanation
from steadygrad.diagnosis.explain import explain as explain
from steadygrad.diagnosis.forks import Choice as Choice
from steadygrad.diagnosis.forks import Fork as Fork
from steadygrad.diagnosis.forks import choose as choose
from steadygrad.diagnosis.repair import Repair as Repair
from steadygrad.diagnosis.repair import repair as repair
from steadygrad.diagnosis.reproduce import Reproduced as Reproduced
from steadygrad.diagnosis.reproduce import reproduce as reproduce
from steadygrad.diagnosis.watch import watch as watch
from steadygrad.diagnosis.watching.watcher import Watch as Watch
from steadygrad.faults import FAULTS as FAULTS
from steadygrad.faults import Fault as Fault
from steadygrad.faults import Finding as Finding
from steadygrad.faults import Thresholds as Thresholds

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
