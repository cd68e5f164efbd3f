"""What every request passes: the token, the size of its body, the measures; and no error tells what a user sent."""

import asyncio
import logging
import time
import traceback
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from behaviorlm.service.access import is_right
from behaviorlm.service.measures import Measures
from behaviorlm.service.settings import LimitSettings

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""What is told without a token: that the service is there, and how to ask."""

log = logging.getLogger("behaviorlm.service")


def problem(
    status: int, error: str, key: str | None = None, headers: dict[str, str] | None = None
) -> HTTPException:
    """A refusal, as `Problem` describes it."""
    return HTTPException(status, {"error": error, "key": key}, headers)  # type: ignore[arg-type]


def too_large(limit: int) -> HTTPException:
    return problem(413, f"a body may have {limit} bytes (limits.body_bytes)", "limits.body_bytes")


def too_slow(limit: float) -> HTTPException:
    told = f"a body must be there within {limit:g} seconds (limits.body_seconds)"
    return problem(408, told, "limits.body_seconds", {"Connection": "close"})


def problem_response(refused: HTTPException) -> JSONResponse:
    """A refusal as an answer, also those of the framework itself."""
    told: Any = refused.detail
    content = told if isinstance(told, dict) else {"error": str(told), "key": None}
    return JSONResponse(content, refused.status_code, refused.headers)


class Guard:
    """The outermost of our layers. paths: those that the app has; others are counted as one."""

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        limits: LimitSettings,
        measures: Measures,
        paths: Collection[str],
    ) -> None:
        self.app, self.token, self.limits = app, token, limits
        self.measures, self.paths = measures, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"] if scope["path"] in self.paths else "other"
        began, status = time.perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refused = self._refused(Headers(scope=scope), scope["path"])
            if refused is not None:
                await problem_response(refused)(scope, receive, seen)
            else:
                await self.app(scope, self._counted(receive), seen)
        # Not handed on, for whoever logs it would log its message, which may hold what a user sent.
        except Exception as error:
            log.error(
                "%s at %s\n%s", type(error).__name__, path, "".join(traceback.format_tb(error.__traceback__))
            )
            if not status:
                await problem_response(problem(500, "the service failed; its log says where"))(
                    scope, receive, seen
                )
        finally:
            self.measures.requests.labels(path, str(status)).inc()
            self.measures.seconds.labels(path).observe(time.perf_counter() - began)

    def _refused(self, headers: Headers, path: str) -> HTTPException | None:
        given = headers.get("authorization", "").encode("latin-1")
        if self.token is not None and path not in OPEN_PATHS and not is_right(given, self.token):
            return problem(
                401,
                "give the service's token: Authorization: Bearer TOKEN",
                "token",
                {"WWW-Authenticate": "Bearer"},
            )
        size = headers.get("content-length", "0")
        most = self.limits.body_bytes
        return too_large(most) if size.isdecimal() and int(size[:20]) > most else None

    def _counted(self, receive: Receive) -> Receive:
        """`receive` that raises once more was sent than a body may have, whatever was announced, or too slowly."""
        total, is_whole = 0, False
        began = asyncio.get_running_loop().time()

        async def counted() -> Message:
            nonlocal total, is_whole
            try:
                async with asyncio.timeout_at(None if is_whole else began + self.limits.body_seconds):
                    message = await receive()
            except TimeoutError:
                raise too_slow(self.limits.body_seconds) from None
            total += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if total > self.limits.body_bytes:
                raise too_large(self.limits.body_bytes)
            return message

        return counted
