"""Looking into a run's inputs before cluster work and before tuning: what is wrong should show in seconds."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from behaviorlm.errors import BehaviorLMError, ConfigError, DataError, ModelError, StorageError
from behaviorlm.events.log import SourceLog, read_events
from behaviorlm.events.normalization import check_quarantine as check_rows
from behaviorlm.events.summary import check_quarantined_behaviors
from behaviorlm.files.patient_reads import patience
from behaviorlm.log_files.config import EventsConfig
from behaviorlm.model.base_model import check_weights, load_tokenizer, max_positions, weights_dtype
from behaviorlm.model.gpu import require_room
from behaviorlm.opponents.names import require_installed
from behaviorlm.prompts.config import AuxiliarySource
from behaviorlm.prompts.conversations import check_quarantine as check_conversations
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.cloze_questions import read_cloze
from behaviorlm_ray.cluster.submission import is_submitted_job
from behaviorlm_ray.cluster.surroundings import ray_address
from behaviorlm_ray.endpoints.requests import key_of
from behaviorlm_ray.pipeline.costs import card_for
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.sample_checks import tunings
from behaviorlm_ray.pipeline.scoring_work import check_plain_allowed
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tracking_settings import check_tracking
from behaviorlm_ray.preparation.plan import QUARANTINE
from behaviorlm_ray.stages.finding import StageOutput
from behaviorlm_ray.stages.root import open_root
from behaviorlm_ray.storage import check_root
from behaviorlm_ray.tuning.precision import keeps_masters

LEAST_SAMPLE = 4
"""Tokens that any sample has beside the instruction: a line of history, a question, a name."""


def check_inputs(run: Run, *, is_written: bool) -> None:
    """Look at everything that a run reads from outside, before cluster work. Raises ConfigError with all problems.

    is_written: also try to write below the root. The error's cause is a StorageError if storage is one of the problems:
    that may pass.
    """
    settings, inputs = run.settings, run.inputs
    checks: list[Callable[[], object]] = [
        ray_address,  # a mistyped one
        lambda: _check_root(settings, is_written),
        lambda: check_log(inputs.source),
        lambda: inputs.log,
        lambda: check_model(run.resolved),
        lambda: _check_room(run.resolved),
        lambda: inputs.base,
        lambda: inputs.conversations(settings.auxiliary),
        lambda: inputs.first_conversations,
        lambda: inputs.cloze,
        lambda: check_tracking(settings.tracking),
        *(partial(require_installed, name) for name in settings.evaluation.opponents),
        *(partial(_check_arm, run, arm) for arm in settings.evaluation.arms),
        *(partial(key_of, endpoint) for endpoint in settings.evaluation.endpoints.values()),
    ]
    problems: list[str] = []
    of_storage: StorageError | None = None
    for check in checks:
        try:
            with patience(settings.storage.patience_seconds):
                check()
        except BehaviorLMError as error:
            if isinstance(error, StorageError):
                of_storage = error
            if not any(str(error) in problem for problem in problems):
                problems.append(str(error))
    if problems and is_submitted_job():
        problems.append(
            f"this is a submitted job, which runs in Ray's copy of the working directory, {Path.cwd()}: paths of data "
            "and models must be absolute, or lie in that directory and not be excluded from the copy"
        )
    if problems:
        raise ConfigError("\n".join(problems)) from of_storage
    if is_written:
        open_root(settings.storage.place, is_written=True)  # nothing is left behind by what is refused
        inputs.keep_precision()


def _check_root(settings: RunSettings, is_written: bool) -> None:
    try:
        # of a folder it is only looked at whether one may write
        check_root(settings.storage.place, is_written=is_written or isinstance(settings.storage.place, Path))
        open_root(settings.storage.place, is_written=False)
    except StorageError as error:
        raise StorageError(f"storage.root: {error}") from error


def _check_arm(run: Run, arm: str) -> None:
    settings = run.for_arm(arm).settings
    run.inputs.conversations(settings.auxiliary)
    if settings.auxiliary == run.settings.auxiliary:
        return
    try:
        check_conversation_lengths(settings)
    except ConfigError as error:
        raise ConfigError(f"arms.{arm}.values: {error}") from None


def check_log(log: SourceLog) -> None:
    """Read the log up to its first usable event.

    Raises DataError where there is none: the log is empty, or the mapping does not fit it.
    """
    reasons: Counter[str] = Counter()
    example = ""
    for usable, unusable in read_events(log):
        if len(usable):
            return
        reasons.update(unusable["reason"].to_pylist())
        if len(unusable) and not example:
            first = unusable.slice(0, 1).to_pylist()[0]
            example = f"{first['file']}, row {first['row']}: {first['reason']}, {first['value']!r}"
    paths = ", ".join(file.path for file in log.files[:5]) + (", …" if len(log.files) > 5 else "")
    if not reasons:
        raise DataError(f"events.paths: the log is empty, there is no row in {paths}")
    listed = ", ".join(f"{reason}: {number}" for reason, number in reasons.most_common())
    raise DataError(
        f"events.paths: none of {reasons.total()} rows in {paths} can be used ({listed}; {example}); do "
        "events.user, events.behavior and events.order name the right columns and the right kind of order?"
    )


def check_model(settings: RunSettings) -> None:
    """Whether the base can do what the run asks of it; of its weights only the headers are read.

    Raises ModelError for a folder without a model, else ConfigError with all that does not fit: tokenizer and prompt,
    lengths of conversations and, where any arm is tuned, dtype, ZeRO stage and adapter.
    """
    check_weights(settings.model)
    checks = [_check_prompt, check_conversation_lengths, _check_cloze_lengths, check_plain_allowed]
    if any(settings.all_arms[arm].tuning != "untuned" for arm in settings.evaluation.arms):
        checks += [_check_precision, _check_adapter]
    problems = []
    for check in checks:
        try:
            check(settings)
        except (ConfigError, ModelError) as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def check_conversation_lengths(settings: RunSettings) -> None:
    """Whether the base has positions for the auxiliary conversations. Raises ConfigError."""
    limit = max_positions(settings.model)
    problems = [
        f"auxiliary.{number}.max_tokens: {source.max_tokens} tokens of a conversation of {source.name!r} are more than "
        f"the {limit} positions of the base model: set it to {limit} or less"
        for number, source in enumerate(settings.auxiliary)
        if source.max_tokens > limit
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _check_prompt(settings: RunSettings) -> None:
    encoder = PromptEncoder(load_tokenizer(settings.model), settings.prompt)
    prompt = encoder.prompt_tokens([], max_positions(settings.model), 0)
    least = len(prompt.instruction_ids) + LEAST_SAMPLE
    used = {
        key
        for arm in settings.evaluation.arms
        for key in tunings(settings, settings.all_arms[arm])
        if getattr(settings, key).max_tokens < least
    }
    if used:
        raise ConfigError(
            "\n".join(
                f"{key}.max_tokens: {getattr(settings, key).max_tokens} tokens hold no sample, for the instruction "
                f"alone takes {len(prompt.instruction_ids)}; raise it, or shorten prompt.instruction"
                for key in sorted(used)
            )
        )


def _check_cloze_lengths(settings: RunSettings) -> None:
    """Whether the base has positions for the cloze questions; what is wrong with their file is told elsewhere."""
    path = settings.evaluation.cloze
    if path is None:
        return
    tokenizer, limit = load_tokenizer(settings.model), max_positions(settings.model)
    with suppress(DataError):
        for number, question in enumerate(read_cloze(path), 1):
            answers = (question.right, *question.wrong)
            tokens = len(tokenizer.encode(question.prefix + max(answers, key=len)))
            if tokens > limit:
                raise ConfigError(
                    f"evaluation.cloze: question {number} of {path} has {tokens} tokens, more than the {limit} "
                    "positions of the base model: shorten or drop it"
                )


def _check_precision(settings: RunSettings) -> None:
    keeps_masters([weights_dtype(settings.model)])


def _check_room(settings: RunSettings) -> None:
    """Whether the base fits on one of the workers' cards, where the settings name them. Raises ModelError."""
    if settings.execution.costs.card is not None and (card := card_for(settings)) is not None:
        require_room(settings.model, card.name, card.gib * 2**30, card.gib * 2**30)


def _check_adapter(settings: RunSettings) -> None:
    if settings.model.adaptation == "full":
        return
    from behaviorlm.model.adapters import check_adapter  # brings peft, which no other check needs

    check_adapter(settings.model)


def check_quarantined_rows(prepared: StageOutput, events: EventsConfig) -> None:
    """Hold a preparation, perhaps one made under other limits, against the quarantine's shares. Raises DataError."""
    metrics, table = prepared.manifest.metrics, prepared.folder / QUARANTINE
    reasons = metrics["quarantined"]
    usable = prepared.manifest.rows["rows"] - sum(reasons.values())
    check_rows(reasons, usable, events, table)
    check_quarantined_behaviors(metrics["quarantined_of"], events, table)


def check_quarantined_conversations(encoded: StageOutput, sources: Sequence[AuxiliarySource]) -> None:
    """The same of each source of conversations; those encoded when this was not yet noted pass."""
    manifest = encoded.manifest
    for source in sources:
        reasons = manifest.metrics.get("quarantined", {}).get(source.name, {})
        usable = sum(manifest.rows[f"{source.name}.{name}"] for name in ("conversations", "without_answer"))
        check_conversations(source, reasons, usable)
