"""The dry run for people: which stages would run or be reused, over what, with which resources, and what comes out."""

from collections.abc import Callable, Sequence

from behaviorlm.errors import ClusterError
from behaviorlm.files.patient_reads import patience
from behaviorlm_ray.cluster.surroundings import check_machine, ray_address
from behaviorlm_ray.costs.log_sample import LogSample
from behaviorlm_ray.evaluation.samples import WITHOUT_VALIDATION
from behaviorlm_ray.pipeline.capacity import capacity_here, lacking
from behaviorlm_ray.pipeline.conversation_checks import described as described_source
from behaviorlm_ray.pipeline.conversation_checks import left_out_by_all
from behaviorlm_ray.pipeline.costs import described_costs, sample_of_first_rows, sample_of_log
from behaviorlm_ray.pipeline.prepare import open_log, prepare
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.sample_checks import score_bytes
from behaviorlm_ray.pipeline.scoring_work import described_work, plain_warnings
from behaviorlm_ray.preparation.few_shots import few_shots_in_words
from behaviorlm_ray.preparation.first_rows import FirstRows, described, read_first_rows
from behaviorlm_ray.preparation.prepared_log import count, rows_of_anchors, rows_of_split
from behaviorlm_ray.stages.runner import Runner
from behaviorlm_ray.stages.stage import Stage


def describe_plan(run: Run, goal: Stage) -> list[str]:
    """Lines of the plan of a goal and all that it needs. Raises what the checks of finished stages do, and
    DataError where one of the log's first rows ends preparation.
    """
    settings, runner = run.settings, run.runner()
    plans = runner.plan(goal)
    lines = [f"run {settings.name}: plan (nothing was run or written)", "", "stages"]
    width = max(len(plan.name) for _, plan in plans)
    for _, plan in plans:
        verb = {"reuse": "reuse", "run": "run", "unknown": "run"}[plan.action]
        lines.append(f"  {plan.name:<{width}} {verb:<6} {plan.reason}")
    log = run.inputs.source
    size = sum(file.size for file in log.files) / 2**20
    lines += ["", "input", f"  {settings.events.dataset}: {_several(len(log.files), 'file')}, {size:.1f} MiB"]
    lines += [f"  {note}" for note in log.notes]
    first_rows = first_rows_of(run)
    lines += [f"  {line}" for line in described(first_rows, settings.events)]
    lines += [f"  {described_source(first)}" for first in run.inputs.first_conversations]
    lines += ["", "samples and tokens", *_samples(run, runner)]
    lines += [
        f"  {stage.label}: {told}"
        for stage, _ in plans
        if stage.estimate is not None and (told := stage.estimate(runner.made_for(stage)))
    ]
    lines += [
        "",
        *_costs(run, runner, [stage for stage, plan in plans if plan.action != "reuse"], first_rows),
    ]
    lines += ["", "left out", *(f"  {line}" for line in _left_out(run, runner) or ["nothing"])]
    tuning = settings.execution.tuning
    device = "GPU" if tuning.use_gpu else "CPU"
    lines += [
        "",
        "resources",
        f"  tuning: {_several(tuning.workers, 'worker')} x {tuning.cpus_per_worker} CPU"
        f"{' + 1 GPU' if tuning.use_gpu else ''}, ZeRO {tuning.zero_stage}, on {device}",
        f"  {run.inputs.precision.told}",
        f"  scoring: up to {_several(settings.execution.scoring_actors, 'replica')} x "
        f"{settings.execution.cpus_per_actor} CPU"
        f"{' + 1 GPU' if tuning.use_gpu else ''}",
        *(f"  not here: {problem}" for problem in _lacking_here(run)),
        "",
        "outputs",
        f"  {run.output_folder}: report.html, results.json, details.json, config.yaml, tensorboard/",
        f"  {runner.root / 'stages'}: every stage with its manifest",
    ]
    return lines


def _costs(run: Run, runner: Runner, stages: Sequence[Stage], first_rows: FirstRows) -> list[str]:
    """What the stages that would run take, as far as it can be told."""
    sample = log_sample(run, runner, lambda: first_rows)
    if sample is None:
        other = "`behaviorlm cost --config FILE --events N --users M` tells of a log of that size"
        return ["cost", f"  known once `prepare` has run; {other}"]
    return described_costs(run, stages, sample)


def log_sample(run: Run, runner: Runner, first_rows: Callable[[], FirstRows]) -> LogSample | None:
    """Some timelines of the run's log, of what is prepared, or of its first rows where these are all."""
    settings, prepared = run.settings, runner.outputs.get(prepare(run).recipe)
    tokens = {first.source.name: first.tokens for first in run.inputs.first_conversations}
    if prepared is None:
        return sample_of_first_rows(first_rows(), settings, tokens)
    disk = float(sum(file.bytes for file in prepared.manifest.files.values()))
    return sample_of_log(open_log(prepared, settings), tokens, disk)


def first_rows_of(run: Run) -> FirstRows:
    """The first rows of the run's log. Raises DataError where one of them ends preparation."""
    settings = run.settings
    with patience(settings.storage.patience_seconds):
        return read_first_rows(
            run.inputs.source, settings.split, settings.prompt.min_history, settings.vocabulary
        )


def _several(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _left_out(run: Run, runner: Runner) -> list[str]:
    """What the report will not have, for want of conversations or of validation samples."""
    lines = left_out_by_all(run.inputs.first_conversations)
    prepared = runner.outputs.get(prepare(run).recipe)
    if prepared is not None and not count(rows_of_split(open_log(prepared, run.settings), "validation")):
        lines.append(WITHOUT_VALIDATION)
    return lines


def _lacking_here(run: Run) -> list[str]:
    """What this machine lacks for a Ray of its own; nothing where RAY_ADDRESS names a cluster."""
    if ray_address() != "local":
        return []
    problems = lacking(run.settings, capacity_here())
    try:
        check_machine()
    except ClusterError as error:
        problems.append(str(error))
    return problems


def _samples(run: Run, runner: Runner) -> list[str]:
    settings, prepared = run.settings, runner.outputs.get(prepare(run).recipe)
    if prepared is None:
        few, of_each = settings.few_shot.tail_samples, settings.few_shot.share
        return [
            "  known once `prepare` has run",
            *([] if few is None else [f"  few_shot.tail_samples: at most {few} of each tail behavior"]),
            *([] if of_each == 1 else [f"  few_shot.share: {of_each:g} of every behavior's samples"]),
            *(f"  warning: {told}" for told in plain_warnings(settings, None)),
        ]
    log = open_log(prepared, settings)
    train = rows_of_split(log, "train")
    anchors = rows_of_anchors(log, train)
    runs = [of for part in log.parts for of in (part.lines, part.questions, part.profiles)]
    tokens = sum(len(of.values) for of in runs)
    told = few_shots_in_words(log)
    validation, test, scores = score_bytes(settings, log)
    return [
        *([] if told is None else [f"  {told}"]),
        f"  training samples {count(train)}, of them {count(anchors)} with an anchor target",
        f"  {tokens} tokens of history lines and questions in {len(log.parts)} parts",
        f"  {described_work(settings, log)}",
        f"  label scores of {validation + test} validation and test samples: {scores / 1e9:,.3g} GB a model",
        *(f"  warning: {told}" for told in plain_warnings(settings, log)),
    ]
