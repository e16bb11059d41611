"""What the processes of one training saw, judged by the first and told to all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from steadygrad.diagnosis.black_box import BlackBox
from steadygrad.faults import Finding
from steadygrad.flow import Call, TimeFlow, recurrent_layers
from steadygrad.flow.merge import Part, merged
from steadygrad.flow.replay import OutputGradient
from steadygrad.ranks import Ranks


def is_replicated(model: nn.Module) -> bool:
    """Whether a model is held once in each process, its gradients averaged over them."""
    return any(isinstance(m, DistributedDataParallel) for m in model.modules())


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without `DistributedDataParallel` around it."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def sharded(model: nn.Module) -> str | None:
    """Name of a parameter of which this process holds a part only, or None."""
    return next((n for n, p in model.named_parameters() if hasattr(p, "placements")), None)


def check_whole(model: nn.Module) -> None:
    """Refuse a model whose parameters are split over processes.

    Raises:
        ValueError: As FSDP2 and tensor parallel make them.
    """
    name = sharded(model)
    if name is not None:
        raise ValueError(
            f"{name} is split over processes (FSDP2 or tensor parallel): no process can run its "
            "layer again from what it holds. Measure before the model is sharded, or train it "
            "with DistributedDataParallel"
        )


@contextmanager
def looking_alone(model: nn.Module) -> Iterator[None]:
    """Refuse to run a model through `DistributedDataParallel`, or from a part of its parameters.

    A pass through it that no ``backward`` follows leaves it waiting for one, and the next step of
    the training fails.

    Raises:
        ValueError: The model is in it, or the loss calls it.
    """
    check_whole(model)
    if is_replicated(model):
        raise ValueError(_ALONE)

    def look(*_: Any) -> None:
        if DistributedDataParallel._get_active_ddp_module() is not None:
            raise ValueError(_ALONE)

    handles = [layer.register_forward_pre_hook(look) for _, layer in recurrent_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_ALONE = (
    "one look at a model is one process's: give model.module, and call that in loss_fn, not the "
    "DistributedDataParallel around it; sg.watch looks at the whole batch of a training"
)


def rows_here(ranks: Ranks, rows: int) -> int:
    """Rows of the batch that this process contributes, ``rows`` in all, every rank's first."""
    return len(ranks.share(rows))


def collected(
    ranks: Ranks, parts: list[Part], layers: dict[str, nn.Module]
) -> tuple[list[Call], list[OutputGradient]]:
    """The rows of all processes as one batch; for the first process, none for the others."""
    everything = ranks.gather(parts)
    return merged([p for each in everything for p in each], layers) if ranks.is_first else ([], [])


def on_host(flows: dict[str, TimeFlow]) -> dict[str, TimeFlow]:
    """The same, with every tensor on the CPU: another process has other devices."""
    return {name: replace(flow, gates=_on_host(flow.gates)) for name, flow in flows.items()}


def _on_host(gates: dict[str, Any]) -> dict[str, Any]:
    names = ("mean_derivative", "mean_value", "std_value")
    return {
        gate: replace(health, **{n: getattr(health, n).cpu() for n in names})
        for gate, health in gates.items()
    }


def first_broken(ranks: Ranks, found: Finding, box: BlackBox) -> tuple[Finding, bytes | str]:
    """Of what each process found to be non-finite, what tells most, and its step.

    After the gradients are averaged over processes all of them are broken. The process whose
    own rows broke them has found the place; the others know only that nothing of theirs is.
    """
    everything = ranks.gather(found)
    if ranks.is_alone:
        return found, b""
    rank = _knows_place(everything)
    chosen = everything[rank]
    evidence = {**chosen.evidence, "process": rank}
    chosen = replace(chosen, evidence=evidence)
    packed = box.packed(chosen) if rank == ranks.rank else b""
    return chosen, ranks.from_rank(packed, rank)


def _knows_place(findings: Sequence[Finding]) -> int:
    known = [rank for rank, f in enumerate(findings) if "parameters_hit" not in f.evidence]
    return known[0] if known else 0
