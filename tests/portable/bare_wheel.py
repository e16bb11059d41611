"""Build the wheel and try it in a bare environment of this Python, or of those named.

    python tests/portable/bare_wheel.py [--wheel dist/steadygrad-....whl] [--python python3.12 ...]

In each: the wheel alone is installed, away from the source, with what it needs from the registries;
a network is diagnosed; the command line says what it lacks. Then with the extra ``cli`` a file is
trained on. Needs nothing but Python itself.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
BARE = """
import torch
import steadygrad as sg
torch.manual_seed(0)
model = torch.nn.LSTM(4, 16)
x = torch.randn(100, 8, 4)
d = sg.diagnose(model, lambda: model(x)[0][-1].pow(2).mean(), lag=99)
assert d.verdict == "vanishing", d
layer = sg.LSTM(4, 16)
assert layer(x)[0].shape == (100, 8, 16)
print(sg.__version__, sg.__file__)
"""


def call(command: list[str], folder: Path, fine: tuple[int, ...] = (0,)) -> str:
    """Run a command in a folder; its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def tried(python: str, wheel: Path) -> str:
    """Try the wheel in a new environment of one Python."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if python == sys.executable:
            venv.create(folder / "env", with_pip=True)
        else:
            call([python, "-m", "venv", str(folder / "env")], folder)
        bin_ = folder / "env" / "bin"
        pip = [
            str(bin_ / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        call([*pip, str(wheel)], folder)
        told = call([str(bin_ / "python"), "-c", BARE], folder)
        assert str(folder) in told, told  # the installed one, not the source
        assert "steadygrad" in call([str(bin_ / "steadygrad"), "--version"], folder)
        missing = call([str(bin_ / "steadygrad"), "explain", "vanishing"], folder, (0, 2))
        assert "Traceback" not in missing, missing
        call([*pip, f"{wheel}[cli]"], folder)
        rows = "\n".join(f"{(3 * t) % 17},{t % 5}" for t in range(300))
        (folder / "data.csv").write_text(f"a,y\n{rows}\n")
        train = ["train", "data.csv", "--target", "y", "--horizon", "2", "--max-steps", "20"]
        out = call([str(bin_ / "steadygrad"), *train], folder)
        assert (folder / "runs" / "data" / "report.html").exists(), out
        return told.split()[0]


def main() -> None:
    """Build if no wheel is given, and try each Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--python", nargs="+")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as built:
        wheel = given.wheel
        if wheel is None:
            call([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", built, str(ROOT)], ROOT)
            (wheel,) = Path(built).glob("*.whl")
        for python in given.python or [sys.executable]:
            print(f"{python}: steadygrad {tried(python, wheel.resolve())} works", flush=True)


if __name__ == "__main__":
    main()
