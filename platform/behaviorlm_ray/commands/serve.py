"""Serve an exported predictor over HTTP: predictions, feedback, measures, and a page to try it.

%(prog)s --model exported/my_app [--port 8000] [--host 0.0.0.0 --token.file token] [--ray]

One process; with --ray as many as Ray Serve is told. SIGHUP opens the model again, SIGTERM ends once all is answered.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from behaviorlm.errors import ConfigError
from behaviorlm.files.input_files import is_on_s3
from behaviorlm.predictor.artifact import read_artifact
from behaviorlm.predictor.places import local_folder
from behaviorlm.service.access import check_address, read_token
from behaviorlm.service.settings import ServeSettings
from behaviorlm_ray.console.command_line import run_job


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Serve, or say whether it could. Returns the exit status."""
    return run_job(ServeSettings, run_service, arguments, __doc__ or "", plan=plan, prog=prog, flags=("ray",))


def check(settings: ServeSettings) -> None:
    """Raise ConfigError for what can be told before anything heavy is loaded."""
    check_address(settings, read_token(settings.token))
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is not installed here: pip install 'behaviorlm[serve]'")
    if is_on_s3(settings.model):
        return  # fetched once, when it is opened
    with local_folder(settings.model, settings.revision) as folder:
        read_artifact(folder)


def plan(settings: ServeSettings) -> None:
    """Say what would be served."""
    check(settings)
    print(f"would serve {settings.model} at http://{settings.host}:{settings.port}")


def run_service(settings: ServeSettings) -> None:
    """Serve until told to end."""
    check(settings)
    if settings.ray:
        from behaviorlm_ray.serving.deployment import serve_on_ray

        serve_on_ray(settings)
        return
    from behaviorlm.service.running import serve

    serve(settings)
