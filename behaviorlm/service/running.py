"""The service as one process, under uvicorn."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from behaviorlm.errors import ConfigError
from behaviorlm.service.app import build_app
from behaviorlm.service.serving import Service
from behaviorlm.service.settings import ServeSettings


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is queued and end. SIGHUP opens the model again.

    Raises ConfigError, DataError and ModelError for what cannot be served, before it listens.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    app = build_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # a line for each request would hold who asked
        server_header=False,
        limit_concurrency=settings.limits.connections,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    with _ending_quietly():
        asyncio.run(_served(uvicorn.Server(config), app))


async def _served(server: uvicorn.Server, app: FastAPI) -> None:
    service: Service = app.state.service
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly

    def open_again() -> None:
        task = loop.create_task(service.open_again())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, open_again)
    try:
        await server.serve()
    except SystemExit as ended:  # uvicorn logged why
        raise ConfigError(
            f"port: the service cannot listen at {server.config.host}:{server.config.port}; is the port taken?"
        ) from ended


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """uvicorn sends the signal that ended it once more, when all is answered; then it means nothing."""
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
