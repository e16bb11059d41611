"""Who may use the page: this machine alone, with the token, from the page itself."""

import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    # No inline script and nothing from elsewhere: what a record holds can never run.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Refuses whatever is not a read, or an action, by this page's own user.

    - The host that is asked for must be this machine by name or number: a foreign name that
      resolves to 127.0.0.1 (DNS rebinding) is refused.
    - A request that a page from elsewhere makes (Origin, Sec-Fetch-Site) is refused.
    - The first part of the path must be the token, compared in constant time; it is cut off.
    - Only GET and HEAD are allowed; for the paths of actions, only POST of JSON, and only with an
      Origin, which every browser sends: a form of another site can send neither.

    Args:
        app: What is guarded.
        token: The secret.
        port: On which it is served.
        actions: Paths below the token that do something.
    """

    def __init__(self, app: App, token: str, port: int, actions: Collection[str] = ()) -> None:
        self._app, self._token, self._actions = app, token, frozenset(actions)
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refused = self._refusal(scope)
        if refused is not None:
            await _refuse(send, *refused)
            return
        path = scope["path"].removeprefix(f"/{self._token}") or "/"
        inner = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(inner, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return 403, "this page is served to this machine alone, by its own address"
        origins = headers.get("origin", [])
        sites = headers.get("sec-fetch-site", [])
        if any(o.lower() not in {f"http://{h}" for h in self._hosts} for o in origins):
            return 403, "another site may not read this page"
        if any(site not in ("same-origin", "none") for site in sites):
            return 403, "another site may not read this page"
        given, _, path = scope["path"].removeprefix("/").partition("/")
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return 403, "the address needs the token that steadygrad has printed"
        if f"/{path}" not in self._actions:
            is_read = scope["method"] in ("GET", "HEAD")
            return None if is_read else (405, "this page only reads")
        if scope["method"] != "POST":
            return 405, "this is an action: send it with POST"
        if len(origins) != 1:
            return 403, "an action needs the Origin that a browser sends"
        kinds = [kind.partition(";")[0].strip().lower() for kind in headers.get("content-type", [])]
        return None if kinds == ["application/json"] else (415, "an action takes JSON")


async def _refuse(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = {**HEADERS, "content-type": "text/plain; charset=utf-8"}
    headers["content-length"] = str(len(body))
    await send({"type": "http.response.start", "status": status, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_raw(HEADERS)]
        await send(message)

    return sending


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
