"""Make the picture of the README: run the demo, draw its first training.

python examples/picture.py [docs/picture.svg]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from steadygrad.record import read
from steadygrad.report import picture


def main() -> None:
    """Run the demo in a temporary folder and write the picture."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/picture.svg")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "steadygrad.cli", "demo", "--out", folder], check=True
        )
        with read(Path(folder) / "before.db") as run:
            print(picture(run, path))


if __name__ == "__main__":
    main()
