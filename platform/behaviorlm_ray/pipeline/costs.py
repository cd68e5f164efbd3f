"""What the stages of a run would take: which samples each works on, and what that costs its model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from behaviorlm.model.base_model import load_tokenizer, max_positions
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.config import Normalization
from behaviorlm.selection.quotas import quotas
from behaviorlm.timelines.parts import Window, labels_with_terminator, part_of_table, tokens_of_labels
from behaviorlm.training.balance import shown_counts
from behaviorlm.training.schedule import steps_per_epoch
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.label_trie import UNCUT
from behaviorlm_ray.costs.cards import Card, card_of
from behaviorlm_ray.costs.log_sample import (
    MOST_ROWS,
    LogSample,
    SampledWork,
    few_of,
    scoring_work,
    thinned,
    thinned_evenly,
    tuning_work,
)
from behaviorlm_ray.costs.memory import (
    USABLE,
    ChosenStage,
    Passing,
    ZeroStage,
    checkpoint_bytes,
    choose_stage,
    worker_memory,
)
from behaviorlm_ray.costs.model_sizes import ModelSizes
from behaviorlm_ray.costs.operations import StepWork, model_work
from behaviorlm_ray.costs.stage_cost import (
    COUNT_SECONDS,
    PREPARE_SECONDS,
    RECOMPUTED,
    StageCost,
    measured_share,
    table,
)
from behaviorlm_ray.pipeline.scoring_work import names_work
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.pipeline.tuning_plan import TuningPlan
from behaviorlm_ray.preparation.first_rows import FirstRows
from behaviorlm_ray.preparation.prepared_log import PreparedLog, count, counts_of, rows_of_split
from behaviorlm_ray.stages.stage import Stage
from behaviorlm_ray.tuning.training_rows import batching_of

if TYPE_CHECKING:
    from behaviorlm_ray.pipeline.run import Run


def described_costs(run: "Run", stages: Sequence[Stage], sample: LogSample) -> list[str]:
    """A table of what stages take, and what is to be said of it."""
    settings, card = run.settings.execution.costs, card_for(run.settings)
    costs = [(stage.label, stage.cost(sample)) for stage in stages if stage.cost is not None]
    on = "a CPU core" if card is None else f"one {card.name}"
    if card is None and run.settings.execution.tuning.use_gpu:
        on = "a GPU that is not known: set execution.costs.card"
    told: dict[str, list[str]] = {}
    for label, cost in costs:
        for line in cost.told:
            told.setdefault(line, []).append(label)
    left_out = [stage.label for stage in stages if stage.cost is None]
    return [
        f"cost, from {sample.told}: {sample.events:,.0f} events; hours of {on} (docs/scale.md tells how well)",
        *table(costs, card, None if card is not None else settings.gigaflops, settings.price_per_hour),
        *(
            f"  {line} ({', '.join(labels[:3])}{' and more' if len(labels) > 3 else ''})"
            for line, labels in told.items()
        ),
        *([f"  not reckoned: {', '.join(left_out)}"] if left_out else []),
    ]


def card_for(settings: RunSettings) -> Card | None:
    """The card that the plan is reckoned for; None on CPUs, and for a GPU that is not known."""
    if not settings.execution.tuning.use_gpu:
        return None
    asked = settings.execution.costs.card
    if asked is None and torch.cuda.is_available():
        asked = torch.cuda.get_device_name()
    return None if asked is None else card_of(asked)


def sample_of_log(log: PreparedLog, conversation_tokens: Mapping[str, float], disk: float) -> LogSample:
    """Some of a prepared log. disk: bytes that it takes."""
    rows = {split: rows_of_split(log, split) for split in ("train", "validation", "test")}
    parts, _ = few_of(log.parts, rows["train"])
    return LogSample(
        parts,
        {split: few_of(log.parts, of_split)[1] for split, of_split in rows.items()},
        log.prompt,
        log.vocabulary.is_anchor,
        counts_of(log, rows["train"]).astype(np.float64),
        {split: float(count(of_split)) for split, of_split in rows.items()},
        float(sum(len(part) for part in log.parts)),
        disk,
        conversation_tokens,
        "the prepared log",
    )


def sample_of_first_rows(
    first: FirstRows, settings: RunSettings, conversation_tokens: Mapping[str, float]
) -> LogSample | None:
    """Of a log that ends with its first rows, before it is prepared; None where there are more, or no vocabulary."""
    if not first.are_all or first.vocabulary is None:
        return None
    vocabulary, timelines = first.vocabulary, first.timelines.slice(0, MOST_ROWS).combine_chunks()
    encoder = PromptEncoder(load_tokenizer(settings.model), settings.prompt)
    questions = encoder.encode_questions(timelines)
    longest = int(pc.max(pc.list_value_length(questions)).as_py() or 0)
    prompt = encoder.prompt_tokens(vocabulary.names, max_positions(settings.model), longest)
    timelines = timelines.append_column("line_ids", encoder.encode_lines(timelines))
    timelines = timelines.append_column("question_ids", questions).combine_chunks()
    window = Window(settings.prompt.max_events, settings.prompt.stride, prompt.max_history_tokens)
    part = part_of_table(timelines, vocabulary, window, Path("the first rows"))
    scale = len(first.timelines) / max(1, len(timelines))
    rows = {split: [part.targets(split)] for split in ("train", "validation", "test")}
    (train,) = rows["train"]
    rows["train"] = [train[part.behavior[train] >= 0]]
    counts = np.bincount(part.behavior[rows["train"][0]], minlength=len(vocabulary)) * scale
    return LogSample(
        [part],
        rows,
        prompt,
        vocabulary.is_anchor,
        counts.astype(np.float64),
        {split: scale * len(of_split) for split, (of_split,) in rows.items()},
        float(len(first.timelines)),
        float(timelines.nbytes) * scale,
        conversation_tokens,
        "the first rows",
    )


def prepare_cost(sample: LogSample) -> StageCost:
    """Of reading and cutting the log; its scratch is about as large as what comes out."""
    return StageCost(
        disk=sample.prepared_bytes, scratch=sample.prepared_bytes, cpu=PREPARE_SECONDS * sample.events
    )


def evaluate_cost(sample: LogSample) -> StageCost:
    """Of counting, which baselines do over all events."""
    return StageCost(cpu=COUNT_SECONDS * sample.events)


def tuning_cost(run: "Run", tuning: TuningPlan, sample: LogSample) -> StageCost:
    """Of a tuning. Tokens are those of trees, each once; a warning where it is too much for the card."""
    settings, config = run.settings, tuning.config
    wanted = _wanted(settings, tuning, sample)
    shown = shown_counts(np.round(wanted).astype(np.int64), settings.loss.oversample)
    samples = float(shown.sum() if settings.loss.oversample else wanted.sum())
    samples *= 1.0 if tuning.half is None else 0.5
    ratios = {each.name: each.ratio for each in settings.auxiliary if each.ratio > 0 and tuning.mixed}
    rows = thinned(sample, wanted)
    if not count(rows):
        return StageCost(told=["there is no sample to tune on"])
    found = tuning_work(sample, rows, batching_of(config), ratios)
    held, kept_rows = _held(tuning, sample)
    labels = len(tokens_of_labels(sample.prompt)) if settings.loss.tokens != "all" else None
    steps = tuning.steps(round(samples))
    done = steps * samples / steps_per_epoch(round(samples), config.samples_per_step)
    work, network = _times(found, done, held, kept_rows), run.inputs.network
    model = None if network is None else model_work(network, labels, kept_rows)
    sizes = run.inputs.sizes
    if sizes is None or model is None:
        return StageCost(work.tokens, told=["what a model of this kind takes is not known"])
    tokens = min(config.max_tokens, round(work.tokens / max(done, 1) * config.samples_per_step))
    execution, card = settings.execution.tuning, card_for(settings)
    passing = Passing(tokens, found.read_outs, labels or sizes.vocabulary, execution.activation_checkpointing)
    zero = zero_stage(run, sizes, passing, card)
    memory = worker_memory(sizes, zero.stage, execution.workers, passing).total
    checkpoint = checkpoint_bytes(sizes)
    return StageCost(
        work.tokens,
        model.of(work),
        measured_share("tuning", sizes.matrices)
        / (RECOMPUTED if execution.activation_checkpointing else 1.0),
        memory,
        sizes.trainable * (4.0 if sizes.trainable < sizes.weights else sizes.bytes),
        checkpoint * (execution.keep_checkpoints + 1.0),
        told=[f"ZeRO-{zero.stage}: {zero.reason}", *_too_large(memory, card, config.max_tokens)],
    )


def zero_stage(run: "Run", sizes: ModelSizes, passing: Passing, card: Card | None) -> ChosenStage:
    """As the workers will choose it, where the card is known."""
    execution = run.settings.execution.tuning
    if execution.zero_stage != "auto":
        return ChosenStage(execution.zero_stage, "as asked for")
    least: ZeroStage = 1 if execution.zero_options else 0
    if card is None:
        return ChosenStage(least, "taken to fit; workers choose by the memory that they find")
    return choose_stage(sizes, execution.workers, passing, card.gib, least)


def scoring_cost(
    run: "Run",
    sample: LogSample,
    wanted: NDArray[np.float64] | Mapping[str, float],
    *,
    disk: float,
    normalization: Normalization | None = None,
) -> StageCost:
    """Of label scores. wanted: training samples of each behavior, float64[K], or by split how many. disk: bytes that
    stay of each. normalization: None: that of the settings.
    """
    settings = run.settings
    if isinstance(wanted, np.ndarray):
        chosen, numbers = {"train": thinned(sample, wanted)}, {"train": float(wanted.sum())}
    else:
        chosen = {split: thinned_evenly(sample, split, number) for split, number in wanted.items() if number}
        numbers = dict(wanted)
    sizes, network = run.inputs.sizes, run.inputs.network
    nodes, head_rows = names_work(
        labels_with_terminator(sample.prompt),
        normalization or settings.scoring.normalization,
        0 if sizes is None else sizes.vocabulary,
    )
    cost = StageCost()
    forward = None if network is None else model_work(network, is_trained=False)
    for split, rows in chosen.items():
        found = scoring_work(sample, rows, settings.execution.windows_per_batch)
        if not found.samples:
            continue
        times = numbers[split] / found.samples
        depth = found.work.attention_pairs / found.work.tokens
        tokens = times * found.work.tokens + numbers[split] * nodes
        pairs = times * found.work.attention_pairs + numbers[split] * nodes * 2 * depth
        operations = 0.0
        if forward is not None and sizes is not None:
            operations = forward.per_token * tokens + forward.per_attention_pair * pairs
            operations += forward.per_readout / sizes.vocabulary * head_rows * numbers[split]
        cost += StageCost(tokens, operations, disk=disk * numbers[split])
    if sizes is None:
        return cost
    return replace(cost, share=measured_share("scoring", sizes.matrices))


def _wanted(settings: RunSettings, tuning: TuningPlan, sample: LogSample) -> NDArray[np.float64]:
    """Training samples of each behavior that a tuning is on."""
    if tuning.samples == "anchors":
        return np.where(sample.is_anchor, sample.counts, 0.0)
    return selected(settings, sample) if tuning.samples == "selected" else sample.counts


def judged(settings: RunSettings, sample: LogSample) -> NDArray[np.float64]:
    """Training samples of each behavior whose difficulty is judged."""
    most = settings.difficulty.max_per_behavior
    return sample.counts if most is None else np.minimum(sample.counts, most)


def selected(settings: RunSettings, sample: LogSample) -> NDArray[np.float64]:
    """How many of each behavior the selection takes."""
    there = np.round(judged(settings, sample)).astype(np.int64)
    if not there.sum():
        return np.zeros(len(there))
    names = [str(index) for index in range(len(there))]
    return quotas(there, sample.is_anchor, names, settings.selection).astype(np.float64)


def _held(tuning: TuningPlan, sample: LogSample) -> tuple[float, int]:
    """Tokens of a sample on average that hold it to the base, and the head's rows that they take."""
    keep, tail = tuning.keep, np.flatnonzero(~sample.is_anchor)
    if keep is None or len(tail) < 2:
        return 0.0, 0
    trie = build_closed_trie(labels_with_terminator(sample.prompt), UNCUT).among(tail)
    return keep.share * trie.nodes, len(trie.child_token)


def _times(found: SampledWork, samples: float, held: float, kept_rows: int) -> StepWork:
    """The work of so many samples; held: tokens of each on top."""
    times, work = samples / found.samples, found.work
    depth = work.attention_pairs / max(work.tokens, 1)
    return StepWork(
        round(times * work.tokens + held * samples),
        round(times * work.attention_pairs + held * samples * depth),
        round(times * work.readouts),
        round(times * work.sample_readouts),
        round(samples if kept_rows else 0),
    )


def _too_large(memory: float, card: Card | None, max_tokens: int) -> list[str]:
    if card is None or memory <= USABLE * card.gib * 2**30:
        return []
    return [
        f"warning: {memory / 2**30:.1f} GiB a worker are more than {USABLE:.0%} of the {card.gib:g} of a {card.name}: "
        f"lower max_tokens ({max_tokens}), or set execution.tuning.activation_checkpointing: true"
    ]


def measured_samples(settings: RunSettings, sample: LogSample) -> dict[str, float]:
    """Validation and test samples that models are measured on."""
    evaluation = settings.evaluation
    limits = {"validation": evaluation.max_validation_samples, "test": evaluation.max_samples}
    return {split: min(sample.targets[split], limit or np.inf) for split, limit in limits.items()}
