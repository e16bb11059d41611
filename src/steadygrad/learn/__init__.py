"""Lessons that compute: each answers one question with this library's own numbers."""

from steadygrad._room import public
from steadygrad.learn.backprop import BackpropLesson as BackpropLesson
from steadygrad.learn.clip import ClipLesson as ClipLesson
from steadygrad.learn.lesson import Lesson as Lesson
from steadygrad.learn.lesson import Result as Result
from steadygrad.learn.lesson import register as _register
from steadygrad.learn.lstm import LSTMLesson as LSTMLesson
from steadygrad.learn.remember import RememberLesson as RememberLesson
from steadygrad.learn.vanish import VanishLesson as VanishLesson

LESSONS = _register(list(globals().values()))
"""Every lesson by name, in their recommended order."""

__all__, __dir__ = public(globals())
