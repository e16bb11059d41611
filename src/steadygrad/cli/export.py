"""``steadygrad export RUN FILE``: export a trained model."""

import json as json_format
from dataclasses import asdict
from pathlib import Path


def export(run: Path, out: Path, states: bool = False, opset: int = 20, json: bool = False) -> int:
    """Write a trained model as ONNX or for torch.export, checked in that run time.

    Args:
        run: Folder of the run, or its model.safetensors.
        out: Output file, with the ending .onnx or .pt2.
        states: Make the recurrent state an input and an output, to run in pieces.
        opset: Version of ONNX's operator set.
        json: Print JSON.
    """
    from steadygrad.deploy import export as write

    done = write(run, out, states=states, opset=opset)
    print(json_format.dumps(asdict(done), indent=2, default=str) if json else done)
    return 0
