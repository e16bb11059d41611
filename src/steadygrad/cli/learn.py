"""``steadygrad learn LESSON``: lessons that compute, in the terminal, as JSON or as a page."""

import json as json_format
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from steadygrad.cli.plain_json import plain
from steadygrad.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from steadygrad.learn import Lesson

SHARED = """
        out: Write the interactive page, one offline HTML file, here.
        json: Print one JSON document with every number, and nothing else.
"""


def learn(lesson: Annotated[str | None, tyro.conf.Positional] = None, json: bool = False) -> int:
    """List the lessons, or compute one, with your own numbers.

    `steadygrad learn` lists them; `steadygrad learn lstm` computes one and shows it here,
    `--out page.html` writes its interactive page; `steadygrad learn lstm --help` lists its options.

    Args:
        lesson: Name of the lesson; without one, all are listed.
        json: Print one JSON document and nothing else.
    """
    from steadygrad.learn import LESSONS

    assert lesson is None  # a name is handled by `subcommand`
    questions = {name: kind.question for name, kind in LESSONS.items()}
    if json:
        print(json_format.dumps(questions, indent=2))
        return 0
    width = max(map(len, questions))
    for name, question in questions.items():
        print(f"{name:<{width}}  {question}")
    return 0


def subcommand(arguments: list[str]) -> tuple[Callable[..., int], str, list[str]]:
    """Return the command for ``arguments``, its name, and the remaining arguments.

    The options of a lesson are the fields of its dataclass, so they depend on its name.

    Raises:
        InputError: No such lesson.
    """
    if not arguments or arguments[0].startswith("-"):
        return learn, "learn", arguments
    from steadygrad.learn import LESSONS

    name, *rest = arguments
    if name not in LESSONS:
        near = did_you_mean(name, LESSONS)
        raise InputError(f"no lesson {name!r}{near}; there are: {', '.join(LESSONS)}")
    return _command(LESSONS[name]), f"learn {name}", rest


def _command(kind: type["Lesson"]) -> Callable[..., int]:
    """A function whose options are those of the lesson."""

    def run(options: Any = kind(), out: Path | None = None, json: bool = False) -> int:  # noqa: B008
        return _show(options, out, json)

    run.__annotations__["options"] = Annotated[kind, tyro.conf.arg(name="")]
    summary = (kind.__doc__ or "").partition("\n")[0]
    run.__doc__ = f"{summary}\n\n    Args:\n        options: Options of the lesson.{SHARED}"
    return run


def _show(lesson: "Lesson", out: Path | None, json: bool) -> int:
    from steadygrad.learn.page import write

    result = lesson.run()
    page = None
    if out is not None:
        try:
            page = write(lesson, result, out)
        except (ValueError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"{out}: cannot be written ({why}); give another --out") from None
    if json:
        document = {"lesson": lesson.name, "question": lesson.question} | result.to_record()
        if page is not None:
            document["page"] = page
        print(json_format.dumps(plain(document), indent=2, allow_nan=False))
        return 0
    from steadygrad.cli.lesson_display import show

    show(lesson, result)
    where = f"page: {page}" if page else f"the interactive page: steadygrad learn {lesson.name}"
    print("\n".join(["", *textwrap.wrap(where if page else f"{where} --out page.html", 96)]))
    return 0
