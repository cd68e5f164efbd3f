"""The app as a deployment of Ray Serve, for `behaviorlm serve --ray` and for a RayService's `import_path`."""

from typing import Any

from behaviorlm.config import validate_settings
from behaviorlm.errors import ConfigError
from behaviorlm.service.access import read_token
from behaviorlm.service.settings import ServeSettings

NAME = "behaviorlm"


def application(arguments: dict[str, Any]) -> Any:
    """An application of Ray Serve; arguments: the keys of `ServeSettings`, as in a RayService's `args`."""
    return bound(validate_settings(ServeSettings, {**arguments, "ray": True}, "args"))


def bound(settings: ServeSettings) -> Any:
    """The deployment. Each replica opens the model itself. Raises ConfigError where Ray Serve is not installed."""
    serve = _ray_serve()
    has_token = read_token(settings.token) is not None

    def app() -> Any:
        return replica_app(settings, has_token=has_token)

    wanted = settings.ray_serve
    deployment = serve.deployment(
        name=NAME,
        num_replicas=wanted.replicas,
        max_ongoing_requests=settings.limits.connections,
        health_check_period_s=10,
        graceful_shutdown_timeout_s=settings.shutdown_seconds,
        logging_config={"enable_access_log": False},  # a line for each request would hold who asked
        ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
    )
    return deployment(serve.ingress(app)()).bind()


def replica_app(settings: ServeSettings, *, has_token: bool) -> Any:
    """The app of a replica. has_token: where the service was started; without it here, anybody would be answered.

    Raises ConfigError then.
    """
    if has_token and read_token(settings.token) is None:
        raise ConfigError(
            f"{settings.token.environment} is not set on this node, though it is where the service was started; set it "
            "on every node, or name a file that each has with token.file"
        )
    from behaviorlm.service.app import build_app  # brings the web framework

    return build_app(settings)


def serve_on_ray(settings: ServeSettings) -> None:
    """Serve on the Ray that is there, or on one of this process's own, until told to end.

    Then what is queued is answered, and other applications of that Ray go on.
    """
    serve = _ray_serve()
    from behaviorlm_ray.cluster.connection import connected  # brings Ray

    with connected(allow_unauthenticated=settings.ray_serve.allow_unauthenticated_cluster):
        serve.start(http_options={"host": settings.host, "port": settings.port})
        try:
            serve.run(bound(settings), name=NAME, blocking=True)
        except KeyboardInterrupt:  # SIGTERM, too
            serve.delete(NAME)


def _ray_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(
            f"Ray Serve is not installed here ({error.name}): pip install 'ray[serve]>=2.60,<2.61'"
        ) from None
    return serve
