"""All that a look at a log finds, before a config exists or with one, for the terminal and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from behaviorlm.errors import ConfigError
from behaviorlm.events.config import source_columns
from behaviorlm.events.log import SourceLog, find_log
from behaviorlm.events.summary import doubts, summary
from behaviorlm.inspection.choices import Choice
from behaviorlm.inspection.columns import Column, look_at
from behaviorlm.inspection.mapped import Mapped, look_at_mapped
from behaviorlm.inspection.proposal import propose
from behaviorlm.inspection.sample import Sample, read_sample
from behaviorlm.inspection.written import written
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.timelines.config import SplitConfig, VocabularyConfig
from behaviorlm_ray.pipeline.settings import RunSettings

EMBEDDED_BASE = "behaviorlm/assets/base"


@dataclass(frozen=True)
class Overview:
    """What was found.

    choices: of the proposal; none with a mapping that was given. text: the proposal as YAML; "" with a given one.
    remarks: what a person should know, in sentences.
    """

    sample: Sample
    columns: tuple[Column, ...]
    choices: tuple[Choice, ...]
    text: str
    log: SourceLog
    mapped: Mapped
    remarks: tuple[str, ...]

    @property
    def mapped_first(self) -> list[Column]:
        """The columns, those that the mapping reads before the others."""
        read = set(source_columns(self.log.events).values())
        return sorted(self.columns, key=lambda column: column.name not in read)

    @property
    def lines(self) -> dict[str, str]:
        """What was read under the mapping, {what: in words}."""
        return summary(self.mapped.facts, self.log.events)

    @property
    def seen(self) -> str:
        """What was looked at, in words."""
        return seen(self.sample)


def proposed(paths: Sequence[str], rows: int) -> Overview:
    """Look at files and propose a mapping. Raises ConfigError and DataError."""
    sample = read_sample(paths, rows)
    columns = tuple(look_at(name, values) for name, values in sample.columns.items())
    proposal = propose(sample, columns, paths)
    log = find_log(proposal.mapping)
    split, vocabulary = proposal.split_config, VocabularyConfig()
    mapped = look_at_mapped(log, split, vocabulary, PromptConfig().min_history, rows)
    allowing = proposal.with_quarantine(mapped.facts.quarantined, mapped.facts.rows)
    if allowing is not proposal:
        proposal, log = allowing, find_log(allowing.mapping)
        mapped = look_at_mapped(log, split, vocabulary, PromptConfig().min_history, rows)
    remarks = list(proposal.doubts)
    if not mapped.are_all and not mapped.accuracy and split.by == "time":
        by_group = SplitConfig(by="group")
        mapped = look_at_mapped(log, by_group, vocabulary, PromptConfig().min_history, rows)
        remarks.append(
            "these rows hold too few events of each user for a split by time: here they are split by user"
        )
    remarks += _remarks(sample, log, mapped)
    choices = (*proposal.events, *proposal.split, *proposal.prompt)
    text = written(proposal, embedded_base(), seen(sample), mapped.problems)
    return Overview(sample, columns, choices, text, log, mapped, tuple(remarks))


def with_mapping(settings: RunSettings, rows: int) -> Overview:
    """Look at a log under the mapping of a configuration. Raises ConfigError and DataError."""
    events = settings.events
    sample = read_sample(events.paths, rows, events)
    columns = tuple(look_at(name, values) for name, values in sample.columns.items())
    log = find_log(events)
    mapped = look_at_mapped(log, settings.split, settings.vocabulary, settings.prompt.min_history, rows)
    return Overview(sample, columns, (), "", log, mapped, tuple(_remarks(sample, log, mapped)))


def seen(sample: Sample) -> str:
    """What was looked at, in words."""
    size = f"{sample.size / 1e6:,.1f} MB" if sample.size > 1e5 else f"{sample.size:,} bytes"
    count = f"{len(sample.files):,} {'file' if len(sample.files) == 1 else 'files'} of {size}"
    if sample.is_all:
        return f"all {sample.rows:,} rows of {count}"
    of_files = f" of {len(sample.looked_at)} files" if len(sample.files) > 1 else ""
    about = f" with about {sample.rows_estimated:,} rows" if sample.rows_estimated else ""
    return f"the first {sample.rows:,} rows{of_files}, of {count}{about}: a sample; `prepare` reads all"


def embedded_base() -> str:
    """The base model that comes along: as a path from here in a checkout, else where it is installed."""
    return EMBEDDED_BASE if Path(EMBEDDED_BASE).is_dir() else str(files("behaviorlm") / "assets" / "base")


def write_new(path: str, text: str) -> None:
    """Write a file that is not there yet. Raises ConfigError where it is, or cannot be written."""
    try:
        with open(path, "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already and is left as it is; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from None


def _remarks(sample: Sample, log: SourceLog, mapped: Mapped) -> list[str]:
    return list(dict.fromkeys([*sample.notes, *log.notes, *doubts(mapped.facts), *mapped.problems]))
