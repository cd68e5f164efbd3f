"""The token trees of each optimizer step: samples with shared histories, and auxiliary conversations.

A step's loss is the mean over its samples of the summed negative log-likelihood of label and terminator, each times
its behavior's weight where there are such, plus for each auxiliary source its weight times the mean over the step's
conversations of the mean over their assistant tokens. The weights of the read-outs carry all of that, so the loss of a
step is a plain sum over its packs, however they are dealt out. (Loss and mixture are our choice; the paper mixes
auxiliary conversations into A-Tuning.)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from behaviorlm.errors import DataError
from behaviorlm.prompts.encoded_conversations import Conversation
from behaviorlm.prompts.encoder import PromptTokens
from behaviorlm.timelines.parts import (
    Int64,
    KeptReadOut,
    SampleReadOut,
    TimelinePart,
    labels_with_terminator,
    window_tokens,
    write_window,
)
from behaviorlm.training.balance import Balance
from behaviorlm.training.chunks import Chunk, chunk_samples, joined_chunks
from behaviorlm.training.schedule import (
    SampleSchedule,
    conversations_per_step,
    fit_packs,
    schedule_conversations,
    schedule_fingerprint,
    schedule_samples,
)
from behaviorlm.training.stored_schedule import StoredSchedule, store_schedule
from behaviorlm.trees.closed_trie import ClosedTrie
from behaviorlm.trees.token_tree import TokenTree, TreeWriter


@dataclass(frozen=True)
class Batching:
    """How samples become steps and packs; see TuningConfig for the meaning of each."""

    samples_per_step: int
    max_samples_per_timeline_per_step: int
    max_tokens: int
    epochs: float
    max_steps: int | None
    seed: int


@dataclass(frozen=True)
class AuxiliaryConversations:
    """The training conversations of one source with its ratio (conversations per sample) and weight."""

    name: str
    ratio: float
    weight: float
    conversations: Sequence[Conversation]


@dataclass(frozen=True)
class TailReference:
    """What holds samples to a reference among the T tail behaviors (see KeptTail), with its weight in a step's loss.

    trie: of the tail, in one piece. rows: for each part the ascending rows that are held; scores: for each of them
    float32 [n, T], log-probabilities of the reference that sum to 1 over the tail.
    """

    trie: ClosedTrie
    weight: float
    rows: Sequence[Int64]
    scores: Sequence[NDArray[np.float32]]

    def held(self, part: int, rows: Int64) -> NDArray[np.bool_]:
        """Which of some rows of a part are held to it."""
        held = self.rows[part]
        if not len(held):
            return np.zeros(len(rows), bool)
        return held[np.searchsorted(held, rows).clip(max=len(held) - 1)] == rows

    def of(self, part: int, row: int) -> NDArray[np.float32]:
        """The reference of a row that is held."""
        found: NDArray[np.float32] = self.scores[part][np.searchsorted(self.rows[part], row)]
        return found


class StepSchedule:
    """Every step of a tuning run as packs; the same whatever the number of workers. Parts stay memory-mapped."""

    def __init__(
        self,
        parts: Sequence[TimelinePart],
        rows: Sequence[Int64] | StoredSchedule,
        prompt: PromptTokens,
        auxiliary: Sequence[AuxiliaryConversations],
        batching: Batching,
        reference: TailReference | None = None,
        balance: Balance | None = None,
    ) -> None:
        """`rows`: for each part the ascending target rows to train on, whose behaviors must be in the vocabulary; or
        what `store` wrote of them, which takes no time: parts are then opened by the steps that read them. balance:
        which rows are there several times, as what was stored has them already, and what samples count.
        """
        self._parts, self._prompt, self._auxiliary, self._batching = parts, prompt, auxiliary, batching
        self._reference, self._balance = reference, balance or Balance()
        self._labels = labels_with_terminator(prompt)
        self._label_tokens = np.array([len(label) for label in self._labels], dtype=np.int64)
        self._samples = rows if isinstance(rows, StoredSchedule) else self._scheduled(rows)
        counts = self._samples.all_samples() if auxiliary else np.zeros(0, np.int64)
        self._conversations = [
            _conversation_schedule(source, counts, [batching.seed, number])
            for number, source in enumerate(auxiliary, start=1)
        ]
        self.cap_exceeded = self._samples.cap_exceeded
        self._of_samples = (
            self._samples.fingerprint
            if isinstance(self._samples, StoredSchedule)
            else schedule_fingerprint(self._samples, parts)
        )
        self.fingerprint = self._fingerprint()

    def store(self, path: Path) -> None:
        """Write which samples are in which step, to open the same schedule from; of one that is not opened so."""
        assert isinstance(self._samples, SampleSchedule)
        store_schedule(self._samples, self._of_samples, path)

    def _scheduled(self, rows: Sequence[Int64]) -> SampleSchedule:
        batching = self._batching
        room = batching.max_tokens - len(self._prompt.instruction_ids)
        most = batching.max_samples_per_timeline_per_step
        chunks = chunk_samples(self._parts, rows, self._tokens_below, most, room)
        if again := self._balance.again:  # each in a chunk of its own, so that copies spread over the steps
            copies = chunk_samples(self._parts, again, self._tokens_below, 1, room)
            chunks = joined_chunks([chunks, copies])
        return schedule_samples(
            chunks,
            samples_per_step=batching.samples_per_step,
            max_per_timeline=batching.max_samples_per_timeline_per_step,
            epochs=batching.epochs,
            max_steps=batching.max_steps,
            seed=batching.seed,
        )

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def part_names(self) -> list[str]:
        """Names of the parts of the loss: "samples", the auxiliary sources, "keep_tail" with a reference."""
        kept = [] if self._reference is None else ["keep_tail"]
        return ["samples", *(source.name for source in self._auxiliary), *kept]

    def epoch(self, step: int) -> int:
        """The epoch a step belongs to, from 0."""
        return self._samples.epoch(step)

    def sample_ids(self, step: int) -> list[bytes]:
        """Ids of the samples of a step, 16 bytes each."""
        return [
            self._parts[chunk.part].sample_id[row].tobytes()
            for chunk in self._samples.chunks(step)
            for row in chunk.rows.tolist()
        ]

    def packs(self, step: int) -> list[TokenTree]:
        """The trees of a step, each of at most `max_tokens` tokens; weights sum the step's loss over them."""
        chunks = self._samples.chunks(step)
        conversations = self._step_conversations(step)
        sizes = [self._chunk_tokens(chunk) for chunk in chunks]
        sizes += [len(conversation.token_ids) for conversation, _, _ in conversations]
        room = self._batching.max_tokens - len(self._prompt.instruction_ids)
        kept_weight = self._kept_weight(step)
        packs = []
        for members in fit_packs(sizes, room):
            taken_chunks = [chunks[index] for index in members if index < len(chunks)]
            taken = [conversations[index - len(chunks)] for index in members if index >= len(chunks)]
            packs.append(self._pack(step, taken_chunks, taken, kept_weight))
        return packs

    def single_packs(self, step: int) -> list[tuple[list[bytes], TokenTree]]:
        """The samples of a step, each window in a pack of its own: (sample ids, item by item; the pack)."""
        result = []
        kept_weight = self._kept_weight(step)
        for chunk in self._samples.chunks(step):
            ids = [self._parts[chunk.part].sample_id[row].tobytes() for row in chunk.rows.tolist()]
            result.append((ids, self._pack(step, [chunk], [], kept_weight)))
        return result

    def _pack(
        self,
        step: int,
        chunks: Sequence[Chunk],
        conversations: Sequence[tuple[Conversation, int, float]],
        kept_weight: float,
    ) -> TokenTree:
        writer = TreeWriter()
        item = 0
        if chunks:
            writer.open(self._prompt.instruction_ids)
        for chunk in chunks:
            part = self._parts[chunk.part]
            write_window(writer, part, chunk.rows, self._read_outs(step, chunk, kept_weight), item)
            item += len(chunk.rows)
        if chunks:
            writer.close()
        for conversation, number, conversation_weight in conversations:
            tokens = int(conversation.is_assistant.sum())
            writer.chain(
                conversation.token_ids,
                conversation.is_assistant,
                weight=conversation_weight / tokens,
                part=number,
                item=item,
            )
            item += 1
        return writer.finish()

    def _read_outs(self, step: int, chunk: Chunk, kept_weight: float) -> list[SampleReadOut]:
        behaviors = self._parts[chunk.part].behavior[chunk.rows]
        labels = [self._labels[behavior] for behavior in behaviors]
        counted = self._balance.weights
        each = np.ones(len(labels)) if counted is None else counted[behaviors]
        weights = (each / self._samples.samples(step)).tolist()
        if self._reference is None:
            return [SampleReadOut(label, weight) for label, weight in zip(labels, weights, strict=True)]
        reference, number = self._reference, len(self.part_names) - 1
        (piece,) = reference.trie.pieces
        return [
            SampleReadOut(
                label,
                weight,
                KeptReadOut(
                    piece.tree,
                    piece.places,
                    kept_weight,
                    reference.of(chunk.part, row),
                    number,
                )
                if held
                else None,
            )
            for label, weight, row, held in zip(
                labels, weights, chunk.rows.tolist(), reference.held(chunk.part, chunk.rows), strict=True
            )
        ]

    def _kept_weight(self, step: int) -> float:
        """What the divergence of each held sample of a step counts in its loss; 0 where none is held."""
        if self._reference is None:
            return 0.0
        held = (self._reference.held(each.part, each.rows) for each in self._samples.chunks(step))
        return self._reference.weight / max(1, sum(int(of_chunk.sum()) for of_chunk in held))

    def _step_conversations(self, step: int) -> list[tuple[Conversation, int, float]]:
        """(conversation, number of its source from 1, its weight in the step's loss)."""
        result = []
        for number, (source, schedule) in enumerate(
            zip(self._auxiliary, self._conversations, strict=True), start=1
        ):
            chosen = schedule[step]
            result += [(source.conversations[index], number, source.weight / len(chosen)) for index in chosen]
        return result

    def _chunk_tokens(self, chunk: Chunk) -> int:
        return window_tokens(self._parts[chunk.part], chunk.rows, self._tokens_below(chunk.part, chunk.rows))

    def _tokens_below(self, part: int, rows: Int64) -> Int64:
        """Tokens of the labels of some rows, and of what else hangs below their prompts."""
        tokens: Int64 = self._label_tokens[self._parts[part].behavior[rows]]
        if self._reference is not None:
            tokens = tokens + self._reference.trie.nodes * self._reference.held(part, rows)
        return tokens

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self._of_samples.encode())
        if self._balance.weights is not None:
            digest.update(b"weights" + self._balance.weights.tobytes())
        for source, schedule in zip(self._auxiliary, self._conversations, strict=True):
            digest.update(f"{source.name} {source.weight}".encode())
            for chosen in schedule:
                digest.update(chosen.tobytes() + b"step")
        if self._reference is not None:
            digest.update(f"keep_tail {self._reference.weight}".encode())
            for rows, scores in zip(self._reference.rows, self._reference.scores, strict=True):
                digest.update(rows.tobytes() + scores.tobytes())
        return digest.hexdigest()


def empty_pack() -> TokenTree:
    """A pack that costs one token and adds nothing to the loss: for a worker that is left without one."""
    writer = TreeWriter()
    writer.open(np.zeros(1, dtype=np.int32))
    writer.read_out(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1), part=0, item=0)
    return writer.finish()


def _conversation_schedule(source: AuxiliaryConversations, samples: Int64, seed: list[int]) -> list[Int64]:
    counts = conversations_per_step(samples, source.ratio)
    if counts.sum() and not len(source.conversations):
        raise DataError(
            f"auxiliary source {source.name!r} has no usable conversation: check its paths or set ratio to 0"
        )
    return schedule_conversations(
        counts, len(source.conversations), int(np.random.SeedSequence(seed).generate_state(1)[0])
    )
