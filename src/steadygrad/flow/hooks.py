"""Module hooks that stay behind when their module is pickled or copied."""

from collections.abc import Callable
from typing import Any, final

from torch._C._functorch import maybe_current_level


@final
class Hook:
    """Wraps a hook so that a watched module can be pickled, saved whole and deep-copied.

    A module carries its hooks along. The copy must not report to the watch of the original, and
    what a watch holds cannot be pickled; so the copy's hook does nothing.

    Within `torch.func.grad`, `torch.vmap` and their like it does nothing either: what passes there
    are tensors of the transform, which mean nothing outside of it.

    Args:
        function: The hook, with the arguments that torch hands to it.
        transformed: Called in its place within a transform.
    """

    def __init__(
        self, function: Callable[..., Any], transformed: Callable[[], None] | None = None
    ) -> None:
        self._function, self._transformed = function, transformed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_transforming():
            return None if self._transformed is None else self._transformed()
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def is_transforming() -> bool:
    """Whether a transform of `torch.func` is at work."""
    return maybe_current_level() is not None


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Stands in the copy in the place of the hook."""
