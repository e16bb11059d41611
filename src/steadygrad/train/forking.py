"""Fork a run: train on from its last checkpoint for a while, with one more remedy or none."""

from dataclasses import replace
from pathlib import Path

from steadygrad.errors import InputError, check_count
from steadygrad.record import read
from steadygrad.remedies import parse
from steadygrad.train import checkpoint
from steadygrad.train.checkpoint_facts import facts_of
from steadygrad.train.data import fingerprint
from steadygrad.train.events import Listener, Outcome
from steadygrad.train.folder import Folder
from steadygrad.train.reloading import config_of
from steadygrad.train.repair import fork_steps
from steadygrad.train.run import Origin, ignore, train


def fork(
    run: Path,
    out: Path,
    remedy: str | None = None,
    *,
    steps: int | None = None,
    data: Path | None = None,
    start: Path | None = None,
    tell: Listener = ignore,
) -> Outcome:
    """Train on from the last checkpoint of a run, in a folder of its own; the run is only read.

    Weights, optimiser, place in the data and random state are those of the checkpoint, so that two
    forks of it differ by their remedy alone. The remedy is put to work on the trained model, as
    `Watch.apply` does it. Of a run that is finished, the checkpoint holds the best weights.

    Args:
        run: Folder of a run of ``steadygrad train``, or its record; it may be training meanwhile.
        out: Folder of the fork; an earlier fork there is replaced.
        remedy: With its options, as `steadygrad.remedies.parse` reads it; None goes on untreated.
        steps: Training steps; a tenth of the run's, at least 100, if not given.
        data: Where the data of the run lies now, if it has moved.
        start: A copy of an earlier checkpoint of the run, to begin there; the last if not given.
        tell: Is called with each event.

    Raises:
        InputError: No such run or no checkpoint of it, its data has changed, or the remedy does
            not suit the model.
    """
    if steps is not None:
        check_count("steps", steps)
    folder = Folder(run if run.is_dir() else run.parent)
    if not folder.record.exists():
        raise InputError(
            f"{run}: holds no {folder.record.name}; give the folder of a run of steadygrad train"
        )
    start = folder.checkpoint if start is None else start
    if not start.exists():
        raise InputError(f"{start}: no such file; the run has saved nothing yet")
    if out.resolve() == folder.path.resolve():
        raise InputError(f"{out}: is the folder of the run itself; give another for the fork")
    with read(folder.record) as record:
        whole = config_of(record.config, folder.record)
    saved = checkpoint.read(start)
    facts = facts_of(saved.facts, str(start))
    file = data or whole.file
    if not file.exists():
        raise InputError(f"{file}: the run's data is not there; say where with --data")
    if facts.data != fingerprint(file):
        raise InputError(f"{file}: is not the file that the run was trained on; restore it")
    try:
        spec = None if remedy is None else parse(remedy).spec
    except ValueError as error:
        raise InputError(str(error)) from None
    begun, length = facts.progress.step, steps or fork_steps(whole)
    config = replace(
        whole,
        file=file,
        out=out,
        remedies=whole.remedies if spec is None else (*whole.remedies, spec),
        max_steps=begun + length,
        epochs=None,
        validate_every=max(1, min(whole.validate_every, length // 5)),
        rollbacks=0,
        resume=False,
        overwrite=True,
    )
    notes = {"forked_from": str(folder.record)}
    return train(config, tell, notes, Origin(saved, whole.remedies, spec))
