"""The HTTP app: paths, errors and the page, around a `Service`."""

import base64
import copy
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from behaviorlm import __version__
from behaviorlm.errors import DataError, StorageError
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.service.access import LOCAL_NAMES, check_address, read_token
from behaviorlm.service.bodies import (
    FeedbackAnswer,
    FeedbackBody,
    PredictAnswer,
    PredictBody,
    Problem,
    ServedModel,
)
from behaviorlm.service.examples import feedback_examples, predict_examples
from behaviorlm.service.feedback import FolderFullError
from behaviorlm.service.guard import Guard, problem, problem_response
from behaviorlm.service.serving import Service, open_model
from behaviorlm.service.settings import ServeSettings

PAGE = Path(__file__).with_name("page.html")
SHOWN_PROBLEMS = 8
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (401, "No token, or a wrong one"),
        (408, "The body took too long"),
        (413, "The body is too large"),
        (422, "What was sent cannot be read, or is more than a request may hold"),
        (429, "Too much waits; try again"),
    )
}


def build_app(settings: ServeSettings, opening: Callable[[], BehaviorModel] | None = None) -> FastAPI:
    """The app, its model opened, `app.state.service` its state. opening: another way to the model.

    Raises ConfigError for an address that needs a token, and what `BehaviorModel.load` raises.
    """
    token = read_token(settings.token)
    check_address(settings, token)
    service = Service(settings, opening or (lambda: open_model(settings)))

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    # Its own pages of documentation load scripts from elsewhere.
    app = FastAPI(
        title="behaviorlm",
        version=__version__,
        description="What a user does next.",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    app.state.service = service
    for router in (_asking(service), _state(service)):
        app.include_router(router)
    for kind, answer in ERRORS.items():
        app.add_exception_handler(kind, answer)
    paths = {*app.openapi()["paths"], "/", "/openapi.json"}
    app.openapi = _described(app.openapi, service)  # type: ignore[method-assign]
    if token is None:
        # A page of another site must not reach a service of this machine by a name of its own for 127.0.0.1.
        app.add_middleware(
            TrustedHostMiddleware, allowed_hosts=[*LOCAL_NAMES, settings.host], www_redirect=False
        )
    app.add_middleware(Guard, token=token, limits=settings.limits, measures=service.measures, paths=paths)
    return app


def _asking(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/predict", response_model=PredictAnswer, responses=REFUSALS)
    async def predict(
        body: Annotated[PredictBody, Body()],
        request: Request,
    ) -> Response:
        """What comes after one history, or after each of many."""
        fingerprint, found = await service.predict(body, _tenant(request, service.settings))
        predictions = [{"behavior": each.behavior, **each.model_dump()} for each in found]
        return JSONResponse({"model": fingerprint, "predictions": predictions})

    @router.post("/feedback", responses=REFUSALS)
    async def feedback(
        body: Annotated[FeedbackBody, Body()],
    ) -> FeedbackAnswer:
        """Keep what came next, as a log to tune on. Answered once it is on disk."""
        return FeedbackAnswer(stored=len(body.events), warnings=await service.keep(body.events))

    @router.get("/model")
    async def model() -> ServedModel:
        """What is being served."""
        return service.describe()

    return router


def _described(of_paths: Callable[[], dict[str, Any]], service: Service) -> Callable[[], dict[str, Any]]:
    """The description of the API with examples in the words of the model that answers now."""

    def described() -> dict[str, Any]:
        told = copy.deepcopy(of_paths())
        for path, examples in (("/v1/predict", predict_examples), ("/v1/feedback", feedback_examples)):
            content = told["paths"][path]["post"]["requestBody"]["content"]["application/json"]
            content["examples"] = examples(service.model.artifact)
        return told

    return described


def _tenant(request: Request, settings: ServeSettings) -> str | None:
    """Who asks; None where nobody can be told from it, or more than one."""
    header = settings.prefix_cache.tenant_header
    if header is None:
        return ""
    named = request.headers.getlist(header)
    return named[0] if len(named) == 1 else None


def _state(service: Service) -> APIRouter:
    router = APIRouter()
    page, policy = _page()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: {"model": Problem}})
    async def readyz() -> dict[str, str]:
        """Whether requests are answered."""
        service.check_ready()
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Measures in Prometheus' text."""
        return Response(generate_latest(service.measures.registry), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", include_in_schema=False)
    async def shown() -> HTMLResponse:
        return HTMLResponse(
            page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
        )

    return router


def _page() -> tuple[str, str]:
    """The page, and the policy that lets a browser run its own script and style and ask its own origin only."""
    text = PAGE.read_text(encoding="utf-8")
    allowed = {}
    for tag in ("script", "style"):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        allowed[tag] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{allowed['script']}'; style-src 'sha256-{allowed['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(error)


async def _of_body(request: Request, error: Exception) -> Response:
    """Where the body is not what it must be; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    told = []
    for each in error.errors()[:SHOWN_PROBLEMS]:
        if each["type"] == "json_invalid":
            return problem_response(problem(422, f"the body is no JSON: {each['ctx']['error']}"))
        place = ".".join(str(part)[:60] for part in each["loc"] if part != "body")
        place = place.encode("utf-8", "backslashreplace").decode()
        told.append((place, f"{place}: {each['msg']}" if place else str(each["msg"])))
    return problem_response(problem(422, "; ".join(text for _, text in told), told[0][0] or None))


async def _of_data(request: Request, error: Exception) -> Response:
    return problem_response(problem(422, str(error)))


async def _of_storage(request: Request, error: Exception) -> Response:
    full = isinstance(error, FolderFullError)
    key = "feedback.folder_bytes" if full else "feedback.folder"
    return problem_response(problem(507 if full else 503, str(error), key))


ERRORS: dict[type[Exception], Any] = {
    HTTPException: _of_http,
    RequestValidationError: _of_body,
    DataError: _of_data,
    StorageError: _of_storage,
}
