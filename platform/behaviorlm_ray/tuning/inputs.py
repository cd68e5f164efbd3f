"""What tuning workers open for themselves: the model to tune and the step schedule, from files and settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from behaviorlm.model.adapters import add_adapter, load_trained
from behaviorlm.model.allowed_tokens import AllowedTokens
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.gpu import gpu_with_room
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.timelines.parts import Int64
from behaviorlm.training.balance import Balance, class_weights, rows_again, shown_counts
from behaviorlm.training.config import LossConfig
from behaviorlm.training.packs import AuxiliaryConversations, StepSchedule
from behaviorlm.training.stored_schedule import StoredSchedule
from behaviorlm_ray import storage
from behaviorlm_ray.preparation.conversation_files import read_encoded
from behaviorlm_ray.preparation.prepared_log import PreparedLog, SampleRows, counts_of
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningConfig
from behaviorlm_ray.tuning.tail_source import TailSource
from behaviorlm_ray.tuning.training_rows import TrainingSamples, batching_of, training_rows


@dataclass(frozen=True)
class MixedSource:
    """One auxiliary source of a tuning run: its encoded conversations, ratio and weight."""

    name: str
    path: Location
    ratio: float
    weight: float


@dataclass(frozen=True)
class ScheduleSource:
    """Opens the step schedule of a tuning run; picklable.

    half: only samples of half 0 or 1 of the groups. selection: the file of selected sample ids, for "selected". tail:
    what samples are held to; None: none are. loss: what it says of how samples are balanced. stored: where the schedule
    was stored, to be read and not made anew, and the balance that it was made with.
    """

    log: PreparedLog
    samples: TrainingSamples
    half: int | None
    selection: Location | None
    auxiliary: Sequence[MixedSource]
    config: TuningConfig
    tail: TailSource | None = None
    loss: LossConfig = field(default_factory=LossConfig)
    stored: tuple[Location, Balance | None] | None = None

    def made(self) -> tuple[StepSchedule, Balance | None]:
        """The schedule, made anew, and what of its balance is to be known where it is stored."""
        rows = training_rows(self.log, self.samples, self.half, self.selection)
        balance = self._balance(rows)
        return self._opened(rows, balance), None if balance is None else Balance(balance.weights)

    def __call__(self) -> StepSchedule:
        if self.stored is None:
            return self.made()[0]
        path, balance = self.stored
        return self._opened(StoredSchedule(storage.local_copy(path)), balance)

    def _balance(self, rows: SampleRows) -> Balance | None:
        loss = self.loss
        if not loss.class_balance and not loss.oversample:
            return None
        counts = counts_of(self.log, rows)
        if loss.class_balance:
            return Balance(class_weights(counts, loss.class_balance))
        shown = shown_counts(counts, loss.oversample)
        return Balance(again=rows_again(self.log.parts, rows, shown, self.config.seed))

    def _opened(self, rows: SampleRows | StoredSchedule, balance: Balance | None) -> StepSchedule:
        return StepSchedule(
            self.log.parts,
            rows,
            self.log.prompt,
            [
                AuxiliaryConversations(
                    source.name, source.ratio, source.weight, read_encoded(source.path, False)
                )
                for source in self.auxiliary
            ],
            batching_of(self.config),
            None if self.tail is None else self.tail.reference(),
            balance,
        )


@dataclass(frozen=True)
class ModelSource:
    """Builds the model to tune; picklable. trained: continue from these weights; None: from the base model.

    allow_plain: whether it may run as plain sequences. label_tokens, tail, allowed, focal: see TreeModel. use_gpu: it
    will go to this process's GPU, whose room is looked at first, however the model is then shared out.
    """

    model: ModelConfig
    trained: Location | None
    parts: int
    seed: int
    allow_plain: bool = True
    label_tokens: Int64 | None = None
    tail: TailSource | None = None
    allowed: AllowedTokens | None = None
    focal: float = 0.0
    use_gpu: bool = False

    def __call__(self) -> TreeModel:
        if self.use_gpu:
            gpu_with_room(self.model)
        if self.trained is not None:
            model = load_trained(self.model, storage.local_copy(self.trained), trainable=True)
        else:
            model = add_adapter(load_model(self.model), self.model, self.seed)
        attention = choose_attention(model, allow_plain=self.allow_plain)
        kept_tail = None if self.tail is None else self.tail.term()
        return TreeModel(model, attention, self.parts, self.label_tokens, kept_tail, self.allowed, self.focal)
