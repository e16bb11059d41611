"""Faults of a recurrent network's gradient, one file each; known to report and diagnosis alike."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.faults.applied_twice import AppliedTwice as AppliedTwice
from steadygrad.faults.axes_swapped import AxesSwapped as AxesSwapped
from steadygrad.faults.base import Fault as Fault
from steadygrad.faults.base import Moment as Moment
from steadygrad.faults.base import Threshold as Threshold
from steadygrad.faults.base import known as known
from steadygrad.faults.base import verdict as verdict
from steadygrad.faults.base import worst_first as worst_first
from steadygrad.faults.call import CallFacts as CallFacts
from steadygrad.faults.clip_loose import ClipLoose as ClipLoose
from steadygrad.faults.clip_misplaced import ClipMisplaced as ClipMisplaced
from steadygrad.faults.clip_tight import ClipTight as ClipTight
from steadygrad.faults.constant_prediction import ConstantPrediction as ConstantPrediction
from steadygrad.faults.curse_of_memory import CurseOfMemory as CurseOfMemory
from steadygrad.faults.dead import Dead as Dead
from steadygrad.faults.depth import DepthCase as DepthCase
from steadygrad.faults.detached import Detached as Detached
from steadygrad.faults.exploding import Exploding as Exploding
from steadygrad.faults.exploding_depth import ExplodingDepth as ExplodingDepth
from steadygrad.faults.finding import Finding as Finding
from steadygrad.faults.finding import Key as Key
from steadygrad.faults.finding import confidence as confidence
from steadygrad.faults.frozen_weights import FrozenWeights as FrozenWeights
from steadygrad.faults.growing import Growing as Growing
from steadygrad.faults.history import History as History
from steadygrad.faults.input_scale import InputScale as InputScale
from steadygrad.faults.layer import LayerCase as LayerCase
from steadygrad.faults.leaking import Leaking as Leaking
from steadygrad.faults.likelihood import Likelihood as Likelihood
from steadygrad.faults.loss_facts import LossFacts as LossFacts
from steadygrad.faults.lr_high import LearningRateHigh as LearningRateHigh
from steadygrad.faults.lr_low import LearningRateLow as LearningRateLow
from steadygrad.faults.mask_inverted import MaskInverted as MaskInverted
from steadygrad.faults.no_gradient import NoGradient as NoGradient
from steadygrad.faults.no_zero_grad import NoZeroGrad as NoZeroGrad
from steadygrad.faults.nonfinite import Nonfinite as Nonfinite
from steadygrad.faults.not_in_optimizer import NotInOptimizer as NotInOptimizer
from steadygrad.faults.padding import Padding as Padding
from steadygrad.faults.recurrence_ignored import RecurrenceIgnored as RecurrenceIgnored
from steadygrad.faults.saturated import Saturated as Saturated
from steadygrad.faults.stale_optimizer import StaleOptimizer as StaleOptimizer
from steadygrad.faults.target_broadcast import TargetBroadcast as TargetBroadcast
from steadygrad.faults.target_scale import TargetScale as TargetScale
from steadygrad.faults.thresholds import Thresholds as Thresholds
from steadygrad.faults.truncated import Truncated as Truncated
from steadygrad.faults.unjudged import HEALTHY as HEALTHY
from steadygrad.faults.unjudged import NOT_JUDGED as NOT_JUDGED
from steadygrad.faults.unjudged import Unjudged as Unjudged
from steadygrad.faults.vanishing import Vanishing as Vanishing
from steadygrad.faults.vanishing_depth import VanishingDepth as VanishingDepth

FAULTS: dict[str, Fault] = known()
"""Every fault of the house by name, the worst first."""

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
