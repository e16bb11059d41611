"""Remedies for gradients that vanish, explode or stop: one dataclass per file."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.remedies.activation import ActivationPenalty as ActivationPenalty
from steadygrad.remedies.ada_gc import AdaGC as AdaGC
from steadygrad.remedies.agc import AGC as AGC
from steadygrad.remedies.applied import Applied as Applied
from steadygrad.remedies.attached import Attached as Attached
from steadygrad.remedies.auto_clip import AutoClip as AutoClip
from steadygrad.remedies.base import Remedy as Remedy
from steadygrad.remedies.bias_reset import BiasReset as BiasReset
from steadygrad.remedies.chrono_init import ChronoInit as ChronoInit
from steadygrad.remedies.clip_norm import ClipNorm as ClipNorm
from steadygrad.remedies.clip_through_time import ClipThroughTime as ClipThroughTime
from steadygrad.remedies.clip_value import ClipValue as ClipValue
from steadygrad.remedies.course import Course as Course
from steadygrad.remedies.demonstration import Demonstration as Demonstration
from steadygrad.remedies.derivative_clip import DerivativeClip as DerivativeClip
from steadygrad.remedies.flossing import Flossing as Flossing
from steadygrad.remedies.forget_bias import ForgetBias as ForgetBias
from steadygrad.remedies.gate_init import GateInit as GateInit
from steadygrad.remedies.gated import Gated as Gated
from steadygrad.remedies.gradient_penalty import GradientPenalty as GradientPenalty
from steadygrad.remedies.identity_init import IdentityInit as IdentityInit
from steadygrad.remedies.irnn import IRNN as IRNN
from steadygrad.remedies.jacobian_scale import JacobianScale as JacobianScale
from steadygrad.remedies.layer_norm import LayerNorm as LayerNorm
from steadygrad.remedies.learning_rate import LearningRate as LearningRate
from steadygrad.remedies.nonfinite import Nonfinite as Nonfinite
from steadygrad.remedies.norm_stabiliser import NormStabiliser as NormStabiliser
from steadygrad.remedies.omega import Omega as Omega
from steadygrad.remedies.orthogonal import Orthogonal as Orthogonal
from steadygrad.remedies.orthogonal_init import OrthogonalInit as OrthogonalInit
from steadygrad.remedies.parse import known as _known
from steadygrad.remedies.parse import parse as parse
from steadygrad.remedies.parse import ranked as ranked
from steadygrad.remedies.patch import Names as Names
from steadygrad.remedies.patch import Patch as Patch
from steadygrad.remedies.recurrent_decay import RecurrentDecay as RecurrentDecay
from steadygrad.remedies.recurrent_rate import RecurrentRate as RecurrentRate
from steadygrad.remedies.rollback import Rollback as Rollback
from steadygrad.remedies.rotation_init import RotationInit as RotationInit
from steadygrad.remedies.skip import Skip as Skip
from steadygrad.remedies.skip_spike import SkipSpike as SkipSpike
from steadygrad.remedies.soft_orthogonal import SoftOrthogonal as SoftOrthogonal
from steadygrad.remedies.source_reversal import SourceReversal as SourceReversal
from steadygrad.remedies.spam_clip import SpamClip as SpamClip
from steadygrad.remedies.spectral_bound import SpectralBound as SpectralBound
from steadygrad.remedies.spectral_margin import SpectralMargin as SpectralMargin
from steadygrad.remedies.treatment import Treatment as Treatment
from steadygrad.remedies.truncate import Truncate as Truncate
from steadygrad.remedies.windows import Window as Window
from steadygrad.remedies.windows import Windows as Windows
from steadygrad.remedies.z_clip import ZClip as ZClip

REMEDIES: dict[str, type[Remedy]] = _known()
"""Every built-in remedy, by its name on the command line."""

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
