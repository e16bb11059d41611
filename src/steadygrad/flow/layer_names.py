"""What a direction of a layer is called: as in ``model.named_modules()``, and a tail if needed."""

from steadygrad.nn import Recurrent


def direction_name(name: str, key: tuple[int, bool], twin: Recurrent) -> str:
    """``lstm``, or ``lstm.l1`` and ``lstm.l0_reverse`` where a module holds several.

    Args:
        name: Of the module.
        key: Layer, and whether it is the reverse direction.
        twin: The module's twin.
    """
    layer, reverse = key
    if twin.num_layers == 1 and twin.num_directions == 1:
        return name
    return f"{name}.l{layer}" + ("_reverse" if reverse else "")
