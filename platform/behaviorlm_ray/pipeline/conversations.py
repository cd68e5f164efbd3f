"""The stage `conversations`: every source of auxiliary conversations as tokens, the held-out ones marked."""

from behaviorlm.files.patient_reads import patience
from behaviorlm.model.base_model import load_tokenizer
from behaviorlm.prompts.conversations import conversation_id, read_conversations, split_holdout
from behaviorlm.prompts.encoded_conversations import encode_conversations
from behaviorlm_ray.pipeline.conversation_checks import HOLDOUT_SEED, left_out
from behaviorlm_ray.pipeline.input_checks import check_quarantined_conversations
from behaviorlm_ray.pipeline.run import Run
from behaviorlm_ray.pipeline.settings import RunSettings
from behaviorlm_ray.preparation.conversation_files import write_encoded
from behaviorlm_ray.stages.attempts import StageFolder, StageResult
from behaviorlm_ray.stages.stage import Made, Stage

VERSION = 1


def conversations(run: Run) -> Stage:
    """For a run that has sources. Its check raises DataError for too many unusable ones."""
    settings = run.settings
    return Stage(
        name="conversations",
        version=VERSION,
        identity={
            "sources": [
                {
                    "name": source.name,
                    "messages": source.messages,
                    "max_tokens": source.max_tokens,
                    "holdout_share": source.holdout_share,
                }
                for source in settings.auxiliary
            ],
            "chat_template_kwargs": settings.prompt.chat_template_kwargs,
        },
        inputs={"base": run.inputs.base, **run.inputs.conversations(settings.auxiliary)},
        body=lambda folder, made: _encode(folder, made, settings),
        check=lambda encoded: check_quarantined_conversations(encoded, settings.auxiliary),
        arm=run.arm,
    )


def _encode(folder: StageFolder, made: Made, settings: RunSettings) -> StageResult:
    tokenizer = load_tokenizer(settings.model)
    rows: dict[str, int] = {}
    quarantined: dict[str, dict[str, int]] = {}
    warnings = []
    for source in settings.auxiliary:
        with patience(settings.storage.patience_seconds):
            found = read_conversations(source)
        encoded = encode_conversations(
            tokenizer, found.conversations, source.max_tokens, settings.prompt.chat_template_kwargs
        )
        ids = [conversation_id(found.conversations[index]) for index in encoded.index]
        is_holdout = split_holdout(ids, source.holdout_share, HOLDOUT_SEED)
        write_encoded(folder.output / f"{source.name}.arrow", encoded.conversations, is_holdout)
        rows |= {f"{source.name}.{name}": value for name, value in encoded.counts.items()}
        rows[f"{source.name}.holdout"] = int(is_holdout.sum())
        quarantined[source.name] = found.quarantine_counts
        warnings += left_out(source, int(is_holdout.sum()))
        warnings += [
            f"{source.name}: {n} conversations set aside: {why}" for why, n in found.quarantine_counts.items()
        ]
    return StageResult(rows=rows, metrics={"quarantined": quarantined}, warnings=warnings)
