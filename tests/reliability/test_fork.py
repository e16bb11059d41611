"""A process forked off from one whose kernels had threads computes the same, and never hangs."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.helpers.marks import needs_compiler

pytestmark = [needs_compiler, pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")]

COMMON = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of every fork with threads
import torch
import steadygrad as sg
from steadygrad.scan.backends.forks import _pool

torch.set_num_threads(2)
torch.manual_seed(0)
layer = {layer}
x = torch.randn(40, 32, 64)

def result():
    layer.zero_grad()
    out = layer(x)[0]
    out.sum().backward()
    return out.detach().double().sum().item(), layer.weight_hh_l0.grad.double().sum().item()

def near(a, b):
    return all(abs(p - q) <= 1e-4 * max(1, abs(q)) for p, q in zip(a, b))
"""
OURS = 'sg.Recurrent("lstm", 64, 96, backend="c")'

FORK = """
wanted = result()
assert _pool.was_used, "the test is too small to use threads"

def child(queue):
    queue.put((result(), torch.get_num_threads(), (x[0] @ x[0].t()).shape[0]))

queue = multiprocessing.get_context("fork").SimpleQueue()
for _ in range(2):
    process = multiprocessing.get_context("fork").Process(target=child, args=(queue,))
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
    found, threads, _ = queue.get()
    assert near(found, wanted), (found, wanted)
    assert threads == 1
assert torch.get_num_threads() == 2 and near(result(), wanted)
print("fine")
"""

FORK_AFTER_TORCH = """
torch.nn.LSTM(64, 96)(x)[0].sum().backward()  # torch's own threads, and none of ours

def child():
    result()

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
assert process.exitcode == 0, process.exitcode
print("fine")
"""

LOADER = """
wanted = result()

class Features(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        with torch.no_grad():
            return layer(x + index)[0].double().sum()

there = [v.item() for v in torch.utils.data.DataLoader(
    Features(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)]
with torch.no_grad():
    here = [layer(x + i)[0].double().sum().item() for i in range(6)]
assert near(there, here), (there, here)
print("fine")
"""

GRANDCHILD = """
wanted = result()

def grandchild():
    assert near(result(), wanted)

def child():
    inner = multiprocessing.get_context("fork").Process(target=grandchild)
    inner.start()
    inner.join(60)
    sys.exit(inner.exitcode)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(90)
assert process.exitcode == 0, process.exitcode
print("fine")
"""


STREAM = """
stream = sg.Stream(layer)
first = stream.push(x[0]).clone()
result()
held = stream.state
wanted = stream.push(x[1]).double().sum().item()
stream.state = held

def child():
    assert near((stream.push(x[1]).double().sum().item(),), (wanted,))

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
assert process.exitcode == 0, process.exitcode
print("fine")
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", [STREAM, FORK, FORK_AFTER_TORCH, LOADER, GRANDCHILD])
def test_a_fork_after_use(text: str) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "2"}
    source = textwrap.dedent(COMMON.format(layer=OURS) + text)
    done = subprocess.run(
        [sys.executable, "-c", source], env=env, capture_output=True, text=True, timeout=150
    )
    assert done.stdout == "fine\n", done.stderr[-2000:]
