"""What every request passes: the token, the size of its body, the measures; and no error tells what a user sent."""

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


def problem_response(refused: HTTPException) -> JSONResponse:
    """A refusal as an answer, also those of the framework itself."""
    told: Any = refused.detail
    content = told if isinstance(told, dict) else {"error": str(told), "key": None}
    return JSONResponse(content, refused.status_code, refused.headers)


class Guard:
    """The outermost of our layers. paths: those that the app has; others are counted as one."""

    def __init__(
        self, app: ASGIApp, token: str | None, body_bytes: int, measures: Measures, paths: Collection[str]
    ) -> None:
        self.app, self.token, self.body_bytes = app, token, body_bytes
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
        return too_large(self.body_bytes) if size.isdecimal() and int(size[:20]) > self.body_bytes else None

    def _counted(self, receive: Receive) -> Receive:
        """`receive` that raises once more was sent than a body may have, whatever was announced."""
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self.body_bytes:
                raise too_large(self.body_bytes)
            return message

        return counted
