"""Reckon a run on a log that need not exist: tokens, operations, memory, disk and hours of every stage.

    %(prog)s --config my_app.yaml --events 1e9 --users 1e7 [--execution.costs.card=H200] [--key.of.the.config=VALUE ...]

Only the configuration file and that of the base are read. docs/scale.md tells how well it does.
"""

from collections.abc import Sequence

from behaviorlm_ray.console.command_line import exit_status, option_parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Print the table. Returns the exit status."""
    from behaviorlm_ray.costs.config import ImaginedLog

    parser = option_parser(__doc__, prog)
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="that of a run, local or s3://bucket/key"
    )
    for name, field in ImaginedLog.model_fields.items():
        told = (
            f"{field.description} (default: {field.default})"
            if not field.is_required()
            else field.description
        )
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=float, required=field.is_required(), default=None, help=told
        )
    known, rest = parser.parse_known_args(arguments)
    if wrong := [one for one in rest if not one.startswith("--") or "=" not in one]:
        parser.error(f"{wrong[0]} is not an option; a key is set by --key.of.the.config=VALUE")
    given = {name: value for name, value in vars(known).items() if name != "config" and value is not None}

    def work() -> None:
        from behaviorlm.config import validate_settings
        from behaviorlm_ray.console.config_files import load_config
        from behaviorlm_ray.pipeline.settings import RunSettings

        settings, _ = load_config(RunSettings, known.config, [one.removeprefix("--") for one in rest])
        log = validate_settings(ImaginedLog, given, "the command line")
        from behaviorlm_ray.pipeline.imagined_run import reckoned  # once all is well

        print("\n".join(reckoned(settings, log)))

    return exit_status(work, "interrupted")
