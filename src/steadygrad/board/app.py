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
from steadygrad.board.sources import Sources
from steadygrad.report.page import stylesheet
from steadygrad.report.strokes import STYLES

EVERY = 1.0
"""Seconds between two looks at the records; longer where reading them takes long."""
FIND_EVERY = 5.0
"""Seconds between two searches for new records."""
ALIVE_EVERY = 10.0
"""Seconds after which a stream without news says that it is still there."""


class Hub:
    """Reads the records while anybody looks, once for all who look.

    Args:
        sources: The records.
        is_ending: Tells that the server is to stop: streams end then.
    """

    def __init__(self, sources: Sources, is_ending: Callable[[], bool]) -> None:
        self.sources, self._is_ending = sources, is_ending
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
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY / 2), self._news:
                        await self._news.wait()
                if time.monotonic() - said > ALIVE_EVERY:
                    said = time.monotonic()
                    yield ": here\n\n"
        finally:
            self._readers -= 1


def application(sources: Sources, is_ending: Callable[[], bool]) -> Starlette:
    """Return the application; it must stand behind a `Guard`."""
    hub = Hub(sources, is_ending)

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

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(hub.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            sources.close()

    routes: list[tuple[str, Any]] = [
        ("/", page), ("/board.css", style), ("/board.js", script), ("/events", events),
        ("/state", state),
    ]  # fmt: skip
    return Starlette(routes=[Route(at, answer) for at, answer in routes], lifespan=lifespan)


def _asset(name: str) -> str:
    return (importlib.resources.files("steadygrad.board") / name).read_text(encoding="utf-8")
