"""Declare the state of a training: what a checkpoint saves, and what it need not save.

A resumed run equals an uninterrupted one if every attribute of the objects of a training is either
*saved* or can be *derived* from the options, the data and the saved state. `undeclared` names
attributes that are neither; a test calls it on a running training.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steadygrad.diagnosis.candidates import Register
from steadygrad.diagnosis.schedule import Turns
from steadygrad.diagnosis.watching.calls import Calls
from steadygrad.diagnosis.watching.clipping import Clipping
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.diagnosis.watching.watcher import Watch
from steadygrad.faults.history import History
from steadygrad.remedies import Course
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.treatment import Treatment
from steadygrad.train.gradient import Gradient
from steadygrad.train.loop import Loop
from steadygrad.train.progress import Progress
from steadygrad.train.rescue import Losses

OPTIONS = "given when it was made"
OF_A_STEP = "lives from the beginning of a step to its end, and nothing is saved in between"
PART = "a part that is declared on its own"


@dataclass(frozen=True)
class Declared:
    """How the attributes of one class are restored.

    Args:
        saved: Names of attributes, and the key or group of the checkpoint that holds them.
        derived: Names of attributes, and how they are derived.
    """

    saved: Mapping[str, str]
    derived: Mapping[str, str]


STATE: Mapping[type, Declared] = {
    Loop: Declared(
        saved={
            "model": "model/, with its mode always that of training",
            "optimizer": "optimizer/; its rate follows from progress",
            "course": PART,
            "progress": "progress",
            "state": "state/<n>",
            "best": "best/",
            "rescues": "rescues",
            "_good": "good, good/",
            "_losses": "losses",
            "_watch": "watch, watch/",
        },
        derived=dict.fromkeys(
            ("config", "task", "folder", "record", "data", "tell", "ranks"), OPTIONS
        )
        | {
            "start_rate": "config",
            "device": "config",
            "called": "model and ranks",
            "cause": "set when the loss is lost, and read before the next step",
            "why": "set when the run ends",
            "_watched": "read once, when a run is resumed",
        },
    ),
    Progress: Declared(
        saved=dict.fromkeys(
            "step epoch index best best_step stale halvings seconds status first".split(),
            "progress",
        ),
        derived={},
    ),
    Losses: Declared(saved={"_recent": "losses"}, derived={}),
    Gradient: Declared(
        saved={"course": PART, "watch": "watch, watch/"},
        derived={
            "parameters": "model",
            "bound": "config",
            "_norms": OF_A_STEP,
            "_done": OF_A_STEP,
        },
    ),
    Course: Declared(
        saved={
            "_own": "remedy/<n>/, after those that have joined",
            "_joined": "remedy/<n>/; which there are, from rescues",
            "applied": "applied/<n>/",
        },
        derived={
            "model": OPTIONS,
            "remedies": OPTIONS,
            "_before": "read when the training begins",
            "_began": OPTIONS,
        },
    ),
    Treatment: Declared(
        saved={"memory": "remedy/<n>/", "_counts": "remedy/<n>/counts"},
        derived=dict.fromkeys(("remedy", "parameters", "optimizer", "scaler"), OPTIONS)
        | {
            "report": OF_A_STEP,
            "_yes": "a constant",
            "_no": "a constant",
            "_handles": "hooks, made anew",
        },
    ),
    Applied: Declared(
        saved={"memory": "applied/<n>/"},
        derived={
            "_restore": "made again when the remedy is applied again",
            "_changed": "made again when the remedy is applied again",
            "_is_undone": "a training does not undo",
            "_penalty": "made again when the remedy is applied again",
            "kept": "made again when the remedy is applied again",
        },
    ),
    Watch: Declared(
        saved=dict.fromkeys(("_seen", "_clipping", "_calls", "_turns"), PART),
        derived=dict.fromkeys(
            ("model", "ranks", "record", "lag", "rows", "thresholds", "_parameters", "_optimizer"),
            OPTIONS,
        )
        | {
            "budget": "time spent by this process; a new one has its own",
            "_capture": OF_A_STEP,
            "_probes": OF_A_STEP,
            "_is_probed": OPTIONS,
            "_depth": OF_A_STEP,
            "_marks": OF_A_STEP,
            "_served": "a page of this process",
            "_owns_record": "whether the page of this process began the record",
            "_scaling": "no scaler in a training of ours",
            "_breakage": OF_A_STEP,
            "_look": "options; what it finds is in _seen",
            "_loss": OF_A_STEP,
            "_facts": "of the last look; gathered again at the next",
            "_judged_at": "judged anew when a resumed run is read",
            "_next_judgement": "goes by the budget, which is of this process",
            "_next_update": "one more early measurement in a resumed run",
            "_wires": "counted anew from the first step on; what it finds is in _seen",
            "_output": "a notebook's, of this process",
            "_weights": OF_A_STEP,
            "_rest": "begins anew: every hook is on in the first steps of a resumed run",
            "_is_light": OF_A_STEP,
            "_light_seconds": OF_A_STEP,
            "_light_steps": OF_A_STEP,
            "_is_waking": OF_A_STEP,
            "_wakes_at": OF_A_STEP,
            "_wakes_after": OF_A_STEP,
            "_gradient_norm": OPTIONS,
            "_is_between_looks": OPTIONS,
            "_is_closed": "a closed watch is not saved",
            "_check": "not asked for in a training of ours",
            "_handles": OPTIONS,
        },
    ),
    Seen: Declared(
        saved={
            "latest": "watch.latest",
            "broken": "watch.broken",
            "was_measured": "watch.measured",
            "gaps": "watch.gaps",
            "weight_norm": "watch.weight_norm",
            "layers": "watch.layers",
            "standing": "watch.standing",
            "withheld": "watch.withheld",
            "register": PART,
            "history": PART,
        },
        derived={
            "options": OPTIONS,
            "sinks": OPTIONS,
            "depth": "of the last look; found again at the next",
            "aged": "of the last look; found again at the next",
            "undecided": "judged anew from the history that is restored",
            "prescriber": OPTIONS,
            "record": OPTIONS,
            "step": "progress.step",
            "flow": "measured again at the first step; that there was one is watch.measured",
        },
    ),
    Register: Declared(
        saved={
            "found": "watch.found",
            "passing": "watch.raised",
            "_raised": "watch.raised",
            "_looks": "watch.looks",
        },
        derived={
            "_prescriber": OPTIONS,
            "_sinks": OPTIONS,
            "_untried": "of the findings; tried on what the next look catches",
        },
    ),
    History: Declared(
        saved={
            "before": "watch/before",
            "after": "watch/after",
            "update": "watch/update",
            "loss": "watch/loss",
            "grows": "watch.grows",
            "changes": "watch.changes",
            "memory": "watch.memory",
            "_stride": "watch.stride",
            "_told": "watch.told",
        },
        derived={
            "optimizer": OPTIONS,
            "planned": OPTIONS,
            "constant": "known again at the next look",
        },
    ),
    Clipping: Declared(
        saved={"norms": "watch/norms", "_were_clipped": "watch/clipped"},
        derived=dict.fromkeys(
            ("_model", "_optimizer", "_seen", "_scaling", "_begun", "before"), OPTIONS
        )
        | {"treatments": "bounds alone, which remember nothing", "_clipped": OF_A_STEP},
    ),
    Calls: Declared(
        saved={"findings": "watch.of_calls", "_has_seen": "watch.called"},
        derived={
            "_start": OPTIONS,
            "_thresholds": OPTIONS,
            "_handovers": "of the last batches: a leak is seen again within a few steps",
        },
    ),
    Turns: Declared(
        saved={"_begun": "watch.begun"},
        derived={
            "_ranks": OPTIONS,
            "_budget": OPTIONS,
            "_every": OPTIONS,
            "_next": "the next step",
            "_later": "asked for anew where a finding hangs on an old look",
            "_taken_at": "the next look of a resumed run comes at once",
            "_demanded": "asked for anew where a finding hangs on an old look",
        },
    ),
}


def undeclared(objects: Iterable[object]) -> list[str]:
    """Name attributes that are not declared, and declared ones that do not exist.

    Args:
        objects: Objects of classes in `STATE`, from a running training.
    """
    found: list[str] = []
    for each in objects:
        declared = STATE[type(each)]
        known = declared.saved.keys() | declared.derived.keys()
        name = type(each).__name__
        found += [f"{name}.{a} is not declared" for a in sorted(vars(each).keys() - known)]
        found += [
            f"{name}.{a} is declared, but does not exist" for a in sorted(known - vars(each).keys())
        ]
        if both := declared.saved.keys() & declared.derived.keys():
            found.append(f"{name}: {sorted(both)} are declared as saved and as derived")
    return found
