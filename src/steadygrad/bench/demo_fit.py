"""One training of the demo: a network that reads pixels, a fixed budget, the best epoch kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.diagnosis import Watch, watch
from steadygrad.record import Record
from steadygrad.remedies import Course
from steadygrad.tasks import Split
from steadygrad.tasks.pixels import UNIT, Pixels

WATCHING = 0.1  # large share of the time for measuring, because the runs are short


@dataclass(frozen=True)
class Recipe:
    """The budget of every run of the demo, the same with and without a remedy.

    The optimiser is gradient descent with momentum. One that divides by the gradient's size partly
    compensates for a small gradient: with Adam at 2e-4 the plain network classifies 47 % of the
    test images correctly in 20 epochs, the repaired one 94 %. Given time, a plain network can
    recover: 54 % after 40 epochs at 3e-3. The demo shows a fault and its cost within a budget.

    Args:
        hidden: Hidden units.
        epochs: Passes through the training images in a full run.
        trial_epochs: Passes in a short training that tries a remedy.
        fresh_seeds: Seeds under which the best remedy has to beat the untreated network again.
        batch_size: Images in a batch.
        learning_rate: Step size.
        momentum: Momentum.
        seed: Fixes weights and order of the images; not their split.
    """

    hidden: int = 128
    epochs: int = 20
    trial_epochs: int = 3
    fresh_seeds: int = 3
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    momentum: float = 0.9
    seed: int = 0


class Reader(nn.Module):
    """A plain recurrence over the pixels, and a linear layer on its last state."""

    def __init__(self, task: Pixels, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(task.input_size, hidden)
        self.head = nn.Linear(hidden, task.output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(T, B, 1)`` to a score per digit, ``(B, 10)``."""
        return self.head(self.rnn(x)[0][-1])


def score(task: Pixels, model: nn.Module, split: Split) -> float:
    """Return the accuracy on ``split`` in per cent."""
    with torch.no_grad():
        tallies = [task.tally(model(b.inputs), b.targets) for b in task.batches(split, 512)]
    return task.figures(torch.stack(tallies).sum(0))[UNIT]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread within the context."""
    # The matrices are small: a second thread gains little, and on a busy machine two threads wait
    # for each other and take six to twenty times as long as one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit(
    task: Pixels,
    recipe: Recipe,
    model: nn.Module,
    course: Course,
    epochs: int,
    tell: Callable[[int], None],
    record: Record | None = None,
) -> tuple[float, Watch | None]:
    """Train ``model`` for ``epochs``, and restore the weights of its best epoch.

    The best epoch is that of the highest validation score, with and without a remedy alike.

    Args:
        task: The images.
        recipe: Batch size, step size, momentum, seed.
        model: The model; its optimiser is made here.
        course: The remedies that were applied to it.
        epochs: Passes through the training images.
        tell: Called with the number of epochs done.
        record: Record of the watch; not watched if not given.

    Returns:
        The best validation score, and the watch, closed.
    """
    optimizer = torch.optim.SGD(model.parameters(), recipe.learning_rate, recipe.momentum)
    course.begin(optimizer)
    lag = task.required_lag
    watching = watch(model, optimizer, record=record, lag=lag, budget=WATCHING) if record else None
    best, weights = -1.0, {}
    step = 0
    for epoch in range(epochs):
        for batch in task.batches("train", recipe.batch_size, (recipe.seed, epoch)):
            loss = task.loss(model(batch.inputs), batch.targets)
            optimizer.zero_grad()
            (loss + course.penalty(loss)).backward()
            course.gradients()
            optimizer.step()
            step += 1
            if record is not None:
                record.scalars(step, {"loss": loss.item()})
        now = score(task, model, "val")
        if record is not None:
            record.scalars(step, {f"val {UNIT}": now})
        if now > best:
            best, weights = now, {n: t.clone() for n, t in model.state_dict().items()}
        tell(epoch + 1)
    if watching is not None:
        watching.close()
    model.load_state_dict(weights)
    return best, watching
