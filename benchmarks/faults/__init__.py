"""Does the diagnosis find real faults, and leave healthy trainings alone?

Every run is a small training built from a recipe. A fault is one change of the recipe; its healthy
twin is the recipe without it. What a run is called does not come from the tool's own rules: it is
faulty if the fault was injected *and* the training fails over its seeds where the twin succeeds
*and*, for a fault of the gradient, a plain float64 unrolling shows it; it is healthy if it reaches
the task's target over its seeds. Settings in which these disagree are dropped, and counted.

Most of the healthy settings are hard negatives: they look ill and are not. Thresholds were set on
the calibration part; the held-out part has other tasks and other cells.

How the thresholds came about: they were first set on the nine pairs of temporal order, adding and
delayed XOR. On nine others (permutation, multiplication, parity; 367 faulty and 364 healthy runs
of four seeds), which they had not seen, recall was 0.99, precision 0.96, macro-F1 0.97 (vanishing
0.89, dead 0.89, padding 1.00, exploding 0.99) and 4.4 % of the healthy runs were accused: of
growing states that did no harm, and of vanishing just before they learned. Those nine joined the
calibration part, and a third set of tasks and cells is held out since. Few of its cells can be made
to fail by vanishing, dead units or padding, so that these faults have no case there.

    python -m benchmarks.faults            # run what is missing, then score; resumable
    python -m benchmarks.faults --table    # score what is there
    python -m benchmarks.faults --half calibration
"""
