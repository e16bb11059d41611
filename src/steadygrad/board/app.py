"""The pages and the stream of events that a browser reads."""

import asyncio
import contextlib
import importlib.resources
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from steadygrad.board import snapshot
from steadygrad.board.cures import Cures, Refused
from steadygrad.board.sources import Sources
from steadygrad.report.line_styles import STYLES
from steadygrad.report.page import stylesheet

EVERY = 1.0
"""Seconds between two looks at the records; longer where reading them takes long."""
FIND_EVERY = 5.0
"""Seconds between two searches for new records."""
ALIVE_EVERY = 10.0
"""Seconds after which a stream without news says that it is still there."""
LONGEST = 4096
"""Bytes of an action."""
ACTIONS = ("/cure", "/cancel")
"""Paths that do something; all others only read."""


class Hub:
    """Reads the records while a page is open, once for all pages.

    Args:
        sources: The records.
        is_ending: Tells that the server is to stop: streams end then.
        cures: Tries remedies; None if the page only reads.
    """

    def __init__(
        self, sources: Sources, is_ending: Callable[[], bool], cures: Cures | None = None
    ) -> None:
        self.sources, self._is_ending, self.cures = sources, is_ending, cures
        self._news = asyncio.Condition()
        self._readers = 0
        self._found = -FIND_EVERY
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Read what has changed, now."""
        async with self._lock:
            is_new = await asyncio.to_thread(self._look)
        if is_new:
            async with self._news:
                self._news.notify_all()

    def _look(self) -> bool:
        now = time.monotonic()
        if now - self._found >= FIND_EVERY:
            self._found = now
            self.sources.find()
        return self.sources.refresh()

    async def run(self) -> None:
        """Look again and again, for as long as somebody follows."""
        while not self._is_ending():
            began = time.monotonic()
            if self._readers:
                await self.look()
            took = time.monotonic() - began
            await asyncio.sleep(max(EVERY, 4 * took))

    async def follow(self) -> AsyncIterator[str]:
        """Server-sent events: everything there is, then whatever changes; the latest alone."""
        seen: dict[str, int] = {}
        tried = -1
        said = time.monotonic()
        self._readers += 1
        try:
            await self.look()
            yield "retry: 1000\n\n"
            while not self._is_ending():
                latest = self.sources.latest
                names = {source.name for source in latest}
                for name in [name for name in seen if name not in names]:
                    del seen[name]
                    yield f"event: gone\ndata: {json.dumps(name)}\n\n"
                for source in latest:
                    if seen.get(source.name) != source.number:
                        seen[source.name] = source.number
                        yield f"event: source\ndata: {source.payload}\n\n"
                if self.cures is not None and self.cures.version != tried:
                    tried = self.cures.version
                    yield f"event: cures\ndata: {json.dumps(self.cures.plain())}\n\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY / 2), self._news:
                        await self._news.wait()
                if time.monotonic() - said > ALIVE_EVERY:
                    said = time.monotonic()
                    yield ": here\n\n"
        finally:
            self._readers -= 1


def application(
    sources: Sources, is_ending: Callable[[], bool], cures: Cures | None = None
) -> Starlette:
    """Return the application; it must stand behind a `Guard`.

    Args:
        sources: The records.
        is_ending: Tells that the server is to stop.
        cures: Tries remedies when the page asks for it; None if the page only reads.
    """
    hub = Hub(sources, is_ending, cures)

    async def page(request: Request) -> Response:
        return Response(_asset("board.html"), media_type="text/html")

    async def style(request: Request) -> Response:
        return Response(stylesheet(_asset("board.css")), media_type="text/css")

    async def script(request: Request) -> Response:
        head = f"const COLOURS = {json.dumps(snapshot.colours())}, STYLES = {json.dumps(STYLES)};\n"
        return Response(head + _asset("board.js"), media_type="text/javascript")

    async def events(request: Request) -> Response:
        return StreamingResponse(hub.follow(), media_type="text/event-stream")

    async def state(request: Request) -> Response:
        await hub.look()
        body = "[" + ",".join(s.payload for s in sources.latest) + "]"
        return Response(body, media_type="application/json")

    async def cure(request: Request) -> Response:
        name = await _run_named(request)
        record = None if name is None else sources.path_of(name)
        if cures is None or name is None or record is None:
            return Response("no run of that name\n", 404, media_type="text/plain")
        try:
            sources.add(await asyncio.to_thread(cures.start, name, record))
        except Refused as error:
            return Response(f"{error}\n", error.status, media_type="text/plain")
        return Response(status_code=202)

    async def cancel(request: Request) -> Response:
        if cures is not None:
            cures.cancel()
        return Response(status_code=202)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(hub.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if cures is not None:
                await asyncio.to_thread(cures.close)
            sources.close()

    routes: list[tuple[str, Any]] = [
        ("/", page), ("/board.css", style), ("/board.js", script), ("/events", events),
        ("/state", state),
    ]  # fmt: skip
    served = [Route(at, answer) for at, answer in routes]
    if cures is not None:
        actions = zip(ACTIONS, (cure, cancel), strict=True)
        served += [Route(at, answer, methods=["POST"]) for at, answer in actions]
    return Starlette(routes=served, lifespan=lifespan)


async def _run_named(request: Request) -> str | None:
    """The name in an action, ``{"run": name}``; None if it is none, or too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST:
            return None
    try:
        name = json.loads(body)["run"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _asset(name: str) -> str:
    return (importlib.resources.files("steadygrad.board") / name).read_text(encoding="utf-8")
