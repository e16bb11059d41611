"""Module hooks that stay behind when their module is pickled or copied."""

from collections.abc import Callable
from typing import Any, final


@final
class Hook:
    """Wraps a hook so that a watched module can be pickled, saved whole and deep-copied.

    A module carries its hooks along. The copy must not report to the watch of the original, and
    what a watch holds cannot be pickled; so the copy's hook does nothing.

    Args:
        function: The hook, with the arguments that torch hands to it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stands in the copy in the place of the hook."""
