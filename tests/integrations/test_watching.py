"""The common part of the callbacks, without a framework."""

import copy
import pickle

import torch

from steadygrad.integrations.watching import Watching
from tests.integrations.problem import LAG, Reader, data


def test_a_callback_knows_what_its_copies_watched() -> None:
    given = Watching(LAG, None, {"every": 1})
    copies = [copy.deepcopy(given), copy.deepcopy(given)]
    assert given.watch is None and given.verdict == "not judged"
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    copies[0].begin(model, optimizer)
    x, y = data(8)
    torch.nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    copies[0].end()
    assert given.verdict == copies[0].verdict == "vanishing"
    copies[1].begin(model, optimizer)  # the latest counts, and a copy's own before that
    assert given.watch is copies[1].watch is not copies[0].watch
    given.end()
    assert given.watch is not None and not given.watch.is_closed, (
        "a watch is ended by the callback that began it"
    )
    assert pickle.loads(pickle.dumps(given)).watch is None
    copies[1].end()
