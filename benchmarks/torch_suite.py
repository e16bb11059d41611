"""PyTorch's own tests of its recurrent layers, run with ours in their place.

    python -m benchmarks.torch_suite [DIR] [--only test_modules] [--json]

``DIR`` holds the folder ``test`` of the PyTorch release that is installed, such as a checkout of
its tag; without it the files are downloaded from that tag on GitHub into the user's cache folder.
They are PyTorch's, and stay out of this repository.

Every file is run twice, in processes of their own: as it is, and with ``torch.nn.RNN``, ``LSTM``
and ``GRU`` being ours before anything of the file is imported. What passes with torch's layers and
does not with ours is an exception; those in `ARGUED` are expected, with the reason. The exit code
is 1 if there are others. Needs ``pip install pytest expecttest hypothesis``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch

HOME = "https://raw.githubusercontent.com/pytorch/pytorch/v{version}/{path}"
FILES = {
    "test/test_nn.py": "(rnn or lstm or gru or RNN or LSTM or GRU) and not cudnn and not cuda",
    "test/test_modules.py": "(RNN or LSTM or GRU) and not Cell and cpu",
    "test/nn/test_packed_sequence.py": "not cuda",
    "test/nn/test_pruning.py": "rnn",
    "test/test_overrides.py": "rnn or lstm or gru",
}
"""Files, and which of their tests have to do with recurrent layers."""
ARGUED: dict[str, str] = {}
"""By the beginning of a test's name, why it cannot pass."""
PLUGIN = """
import os
if os.environ.get("STEADYGRAD_IN_PLACE"):
    import steadygrad, torch
    for name in ("RNN", "LSTM", "GRU"):
        setattr(torch.nn, name, getattr(steadygrad, name))
        setattr(torch.nn.modules, name, getattr(steadygrad, name))
        setattr(torch.nn.modules.rnn, name, getattr(steadygrad, name))
"""


@dataclass(frozen=True)
class Compared:
    """One file.

    Attributes:
        file: Its path in PyTorch's repository.
        torch: Tests that pass with torch's layers.
        ours: Of these, tests that pass with ours.
        argued: Exceptions that are expected, with the reason.
        exceptions: The others, with the last line of what was said.
    """

    file: str
    torch: int
    ours: int
    argued: dict[str, str]
    exceptions: dict[str, str]


def folder(given: str | None) -> Path:
    """Where the files are; downloaded if they are nowhere."""
    if given is not None:
        return Path(given)
    version = torch.__version__.partition("+")[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    root = cache / "steadygrad" / f"pytorch-{version}"
    for path in FILES:
        target = root / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(HOME.format(version=version, path=path)) as reply:
                target.write_bytes(reply.read())
    return root


def outcomes(path: Path, which: str, in_place: bool) -> dict[str, str]:
    """Per test that was run and not skipped, the last line of its failure; empty if it passed."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "steadygrad_in_place.py").write_text(PLUGIN)
        report = Path(scratch) / "report.xml"
        python_path = os.pathsep.join([scratch, os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {
            "PYTHONPATH": python_path,
            "PYTORCH_TESTING_DEVICE_ONLY_FOR": "cpu",
        }
        environment |= {"STEADYGRAD_IN_PLACE": "1"} if in_place else {}
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        pytest += ["-p", "steadygrad_in_place", "-c", os.devnull, "--rootdir", str(path.parent)]
        command = [*pytest, f"--junitxml={report}", "-k", which, str(path)]
        done = subprocess.run(
            command, env=environment, cwd=path.parent, capture_output=True, text=True
        )
        if not report.exists():
            raise SystemExit(f"{path}: pytest failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        found: dict[str, str] = {}
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is not None:
                continue
            failed = [e for kind in ("failure", "error") for e in case.findall(kind)]
            words = [e.get("message") or e.text or "failed" for e in failed]
            found[f"{case.get('classname')}::{case.get('name')}"] = " ".join(words)[:200]
        return found


def compared(root: Path, file: str) -> Compared:
    plain, ours = (outcomes(root / file, FILES[file], own) for own in (False, True))
    passing = [name for name, words in plain.items() if not words]
    if not passing:
        said = "; ".join(sorted(set(plain.values()))[:3]) or "no test was collected"
        raise SystemExit(
            f"{file}: no test passes on torch's layers: is it of another release? {said}"
        )
    failing = {n: ours.get(n, "not run") for n in passing if ours.get(n, "not run")}
    argued = {
        name: why
        for name in failing
        for start, why in ARGUED.items()
        if name.rpartition("::")[2].startswith(start)
    }
    rest = {name: words for name, words in failing.items() if name not in argued}
    return Compared(file, len(passing), len(passing) - len(failing), argued, rest)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dir", nargs="?", help="holds PyTorch's folder test, of this release")
    parser.add_argument("--only", help="files whose path holds this")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    root = folder(args.dir)
    chosen = [f for f in FILES if (args.only or "") in f and (root / f).exists()]
    if not chosen:
        raise SystemExit(f"{root}: none of {', '.join(FILES)} is there")
    found = [compared(root, file) for file in chosen]
    if args.json:
        print(json.dumps([asdict(f) for f in found], indent=2))
    else:
        for f in found:
            print(f"{f.file}: {f.ours} of {f.torch} that pass on torch's layers pass on ours")
            for name, words in (*f.argued.items(), *f.exceptions.items()):
                print(f"  {'expected' if name in f.argued else 'EXCEPTION'} {name}: {words}")
    return int(any(f.exceptions for f in found))


if __name__ == "__main__":
    raise SystemExit(main())
