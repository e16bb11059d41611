"""Does the diagnosis find real faults, and leave healthy trainings alone?

Every run is a small training built from a recipe. A fault is one change of the recipe; its healthy
twin is the recipe without it. What a run is called does not come from the tool's own rules: it is
faulty if the fault was injected *and* the training fails over its seeds where the twin succeeds
*and*, for a fault of the gradient, a plain float64 unrolling shows it; it is healthy if it reaches
the task's target over its seeds. Settings in which these disagree are dropped, and counted.

Half of the healthy settings are hard negatives: they look ill and are not. Thresholds were set on
the calibration half; the held-out half has other tasks and other cells.

    python -m benchmarks.faults            # run what is missing, then score; resumable
    python -m benchmarks.faults --table    # score what is there
    python -m benchmarks.faults --half calibration
"""
