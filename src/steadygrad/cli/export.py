"""``steadygrad export RUN FILE``: a trained model for another run time."""

import json as json_format
from dataclasses import asdict
from pathlib import Path


def export(run: Path, out: Path, states: bool = False, opset: int = 20, json: bool = False) -> int:
    """Write a trained model as ONNX or for torch.export, checked in that run time.

    Args:
        run: Folder of the run, or its model.safetensors.
        out: Where to: a name that ends in .onnx or .pt2.
        states: Let the recurrent state go in and come out, to run piece by piece.
        opset: Version of ONNX's operators.
        json: Print JSON.
    """
    from steadygrad.deploy import export as write

    done = write(run, out, states=states, opset=opset)
    print(json_format.dumps(asdict(done), indent=2, default=str) if json else done)
    return 0
