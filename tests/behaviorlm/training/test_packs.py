"""Packs of a step: the loss of plain sequences, every sample once, within the token budget, whatever the dealing."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from behaviorlm.errors import DataError, StorageError
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.kept_tail import kept_tail
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.timelines.parts import Window, history_tokens, labels_with_terminator
from behaviorlm.training import stored_schedule
from behaviorlm.training.packs import (
    AuxiliaryConversations,
    Batching,
    StepSchedule,
    TailReference,
    empty_pack,
)
from behaviorlm.training.stored_schedule import StoredSchedule
from behaviorlm.trees.closed_trie import build_closed_trie
from tests.behaviorlm.random_parts import prompt_tokens, random_conversations, random_parts
from tests.behaviorlm.tiny_models import CONFIGS, tiny_model

LENGTHS = [[9, 2, 7], [12, 5]]


def batching(**changes: object) -> Batching:
    settings = {
        "samples_per_step": 7,
        "max_samples_per_timeline_per_step": 3,
        "max_tokens": 120,
        "epochs": 1.0,
        "max_steps": None,
        "seed": 0,
    }
    return Batching(**{**settings, **changes})  # type: ignore[arg-type]


def schedule(folder: Path, seed: int = 0, sources: int = 0, **changes: object) -> StepSchedule:
    parts = random_parts(folder, seed, LENGTHS)
    auxiliary = [
        AuxiliaryConversations(f"source {number}", 0.3 + number, 0.5, random_conversations(seed + number, 4))
        for number in range(sources)
    ]
    return StepSchedule(
        parts, [part.targets("train") for part in parts], prompt_tokens(seed), auxiliary, batching(**changes)
    )


def test_the_packs_of_a_step_sum_to_the_mean_loss_of_plain_sequences(tmp_path: Path) -> None:
    model = tiny_model(CONFIGS["llama"])
    tree_model = TreeModel(model, choose_attention(model), parts=2)
    parts = random_parts(tmp_path, 0, LENGTHS)
    prompt = prompt_tokens(0)
    talks = random_conversations(0, 4)
    steps = StepSchedule(
        parts,
        [part.targets("train") for part in parts],
        prompt,
        [AuxiliaryConversations("talk", 0.4, 0.25, talks)],
        batching(),
    )
    row_of = {part.sample_id[row].tobytes(): (part, row) for part in parts for row in range(len(part))}

    def plain_nll(prefix: np.ndarray, predicted: np.ndarray) -> float:
        ids = torch.tensor(np.concatenate([prefix, predicted]).astype(np.int64))
        with torch.no_grad():
            log_probabilities = torch.log_softmax(model(input_ids=ids[None]).logits[0].double(), -1)
        return -float(log_probabilities[range(len(prefix) - 1, len(ids) - 1), ids[len(prefix) :]].sum())

    seen_talks = 0
    for step in range(len(steps)):
        with torch.no_grad():
            outcomes = [tree_model(pack_tensors(pack, "cpu")) for pack in steps.packs(step)]
        by_part = sum(outcome[1] for outcome in outcomes)
        losses = []
        for sample in steps.sample_ids(step):
            part, row = row_of[sample]
            history = [part.lines[index] for index in range(part.window_start[row], row)]
            prefix = np.concatenate([prompt.instruction_ids, *history, part.questions[row]])
            label = np.concatenate([prompt.label_ids[part.behavior[row]], prompt.terminator_ids])
            losses.append(plain_nll(prefix, label))
        assert float(by_part[0]) == pytest.approx(np.mean(losses), rel=1e-5)
        items = {
            (index, item)
            for index, pack in enumerate(steps.packs(step))
            for item in pack.item[pack.part == 1]
        }
        seen_talks += len(items)
        assert (float(by_part[1]) > 0) == bool(items)
        assert sum(float(outcome[0]) for outcome in outcomes) == pytest.approx(float(by_part.sum()), rel=1e-5)
    assert seen_talks == int(0.4 * 30)


def test_a_conversation_counts_as_the_mean_over_its_assistant_tokens(tmp_path: Path) -> None:
    steps = schedule(tmp_path, sources=1)
    for step in range(len(steps)):
        for pack in steps.packs(step):
            for item in np.unique(pack.item[pack.part == 1]):
                weights = pack.weight[(pack.part == 1) & (pack.item == item)]
                assert len(set(weights.tolist())) == 1
        total = sum(float(pack.weight[pack.part == 1].sum()) for pack in steps.packs(step))
        assert total == pytest.approx(0.5) or total == 0


@pytest.mark.parametrize("epochs", [1.0, 2.0])
def test_every_sample_of_an_epoch_is_in_exactly_one_step(tmp_path: Path, epochs: float) -> None:
    steps = schedule(tmp_path, epochs=epochs)
    by_epoch: dict[int, Counter[bytes]] = {}
    for step in range(len(steps)):
        by_epoch.setdefault(steps.epoch(step), Counter()).update(steps.sample_ids(step))
    assert len(by_epoch) == epochs
    for counted in by_epoch.values():
        assert set(counted.values()) == {1}
        assert len(counted) == 30  # 35 events, 5 of them first ones


def test_packs_keep_to_the_token_budget_and_share_one_instruction(tmp_path: Path) -> None:
    steps = schedule(tmp_path, sources=2, max_tokens=90)
    instruction = prompt_tokens(0).instruction_ids
    for step in range(len(steps)):
        for pack in steps.packs(step):
            assert len(pack) <= 90
            starts = np.flatnonzero(pack.depth == 0)
            shared = [
                start for start in starts if np.array_equal(pack.token_ids[start : start + 6], instruction)
            ]
            assert len(shared) == ((pack.part == 0).any())


def test_a_step_takes_no_more_of_a_timeline_than_the_cap_while_others_are_left(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, [[7] * 20])
    steps = StepSchedule(
        parts, [parts[0].targets("train")], prompt_tokens(0), [], batching(samples_per_step=12)
    )
    user_of = {parts[0].sample_id[row].tobytes(): parts[0].user_start[row] for row in range(len(parts[0]))}
    for step in range(len(steps) - 3):
        assert max(Counter(user_of[sample] for sample in steps.sample_ids(step)).values()) <= 3


def test_a_single_timeline_is_trained_on_whole_and_the_exceeded_cap_is_counted(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, [[40]])
    steps = StepSchedule(parts, [parts[0].targets("train")], prompt_tokens(0), [], batching())
    assert sum(len(steps.sample_ids(step)) for step in range(len(steps))) == 39
    assert steps.cap_exceeded > 0


def test_the_schedule_is_fixed_by_its_seed(tmp_path: Path) -> None:
    first, again, other = schedule(tmp_path), schedule(tmp_path), schedule(tmp_path, samples_per_step=10)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert [first.sample_ids(step) for step in range(len(first))] == [
        again.sample_ids(s) for s in range(len(again))
    ]


def test_a_sample_that_does_not_fit_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raise max_tokens"):
        schedule(tmp_path, max_tokens=12)


def test_a_source_without_conversations_is_an_error_that_names_it(tmp_path: Path) -> None:
    parts = random_parts(tmp_path, 0, LENGTHS)
    empty = AuxiliaryConversations("talk", 0.5, 1.0, [])
    with pytest.raises(DataError, match="'talk'"):
        StepSchedule(parts, [part.targets("train") for part in parts], prompt_tokens(0), [empty], batching())


def test_an_empty_pack_adds_nothing() -> None:
    model = tiny_model(CONFIGS["llama"])
    loss, parts, _ = TreeModel(model, choose_attention(model), parts=2)(pack_tensors(empty_pack(), "cpu"))
    loss.backward()
    assert loss.item() == 0 and parts.sum().item() == 0
    assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)


def test_a_window_is_cut_by_tokens_where_its_history_by_events_has_more(tmp_path: Path) -> None:
    (whole,) = random_parts(tmp_path, 6, [[60, 30, 1]], Window(6, 3, 10_000))
    tokens = history_tokens(whole.user_start[:], whole.lines.lengths(), 6, 3)
    for limit in range(1, 31):
        (cut,) = random_parts(tmp_path, 6, [[60, 30, 1]], Window(6, 3, limit))
        assert ((cut.window_start[:] > whole.window_start[:]) == (tokens > limit)).all()
    assert (tokens > 10).any() and (tokens > 30).sum() == 0


def test_windows_are_bounded_by_events_and_tokens_and_start_at_strides(tmp_path: Path) -> None:
    window = Window(max_events=6, stride=3, max_history_tokens=17)
    (part,) = random_parts(tmp_path, 5, [[60, 30]], window)
    lengths = part.lines.lengths()
    for row in range(len(part)):
        start = part.window_start[row]
        first = part.user_start[row]
        assert first <= start <= row
        assert row - start <= 6
        assert lengths[start:row].sum() <= 17
        if row > first:
            assert start < row
        aligned = [
            s
            for s in range(first, row)
            if (s - first) % 3 == 0 and row - s <= 6 and lengths[s:row].sum() <= 17
        ]
        if aligned:
            assert start == aligned[0]


def test_held_samples_add_the_mean_of_their_divergences_from_a_reference(tmp_path: Path) -> None:
    model = tiny_model(CONFIGS["llama"]).double()
    parts = random_parts(tmp_path, 3, LENGTHS)
    names = ([10], [10, 20], [10, 21], [11, 20], [11, 21, 22])
    prompt = replace(prompt_tokens(3), label_ids=tuple(np.array(name, np.int32) for name in names))
    tail, random = np.array([2, 3, 4]), np.random.default_rng(0)
    trie = build_closed_trie(labels_with_terminator(prompt), 1 << 40).among(tail)
    rows = [part.targets("train") for part in parts]
    held = [of_part[::2] for of_part in rows]
    scores = [np.log(random.dirichlet(np.ones(3), len(of_part))).astype(np.float32) for of_part in held]
    reference = TailReference(trie, 0.7, held, scores)
    steps = StepSchedule(parts, rows, prompt, [], batching(max_tokens=60), reference)
    assert trie.nodes and steps.part_names == ["samples", "keep_tail"]
    attention = choose_attention(model)
    tree_model = TreeModel(model, attention, parts=2, kept_tail=kept_tail(trie, 2.0))
    scorer = label_scorer(model, attention, labels_with_terminator(prompt), 1000, "trie")
    wanted = {
        parts[index].sample_id[row].tobytes(): (index, row, scores[index][place])
        for index, of_part in enumerate(held)
        for place, row in enumerate(of_part.tolist())
    }

    def divergence(part: int, row: int, q: np.ndarray) -> float:
        history = [parts[part].lines[index] for index in range(parts[part].window_start[row], row)]
        ids = np.concatenate([prompt.instruction_ids, *history, parts[part].questions[row]])
        log_p = torch.from_numpy(scorer.score(lambda writer: [writer.leaf(ids)])[0, tail]).double() / 2.0
        log_q = torch.from_numpy(q).double()
        return 4.0 * float((log_q.exp() * (log_q - torch.log_softmax(log_p, -1))).sum())

    seen = 0
    for step in range(len(steps)):
        packs = steps.packs(step)
        assert all(len(pack) <= 60 for pack in packs)
        with torch.no_grad():
            pulled = sum(float(tree_model(pack_tensors(pack, "cpu"))[1][1]) for pack in packs)
        of_step = [divergence(*wanted[sample]) for sample in steps.sample_ids(step) if sample in wanted]
        seen += len(of_step)
        assert pulled == pytest.approx(0.7 * np.mean(of_step), rel=1e-5)
        assert sum(len(np.unique(pack.item[pack.part == 0])) for pack in packs) == len(steps.sample_ids(step))
    assert seen == sum(map(len, held))


@pytest.mark.parametrize("steps", [1, 3, 256])
def test_a_stored_schedule_is_the_one_that_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(stored_schedule, "STEPS_A_BATCH", steps)
    monkeypatch.setattr("behaviorlm.training.schedule.STEPS_TOGETHER", steps)
    made = schedule(tmp_path, sources=1, epochs=2.0)
    made.store(tmp_path / "schedule.arrow")
    parts = random_parts(tmp_path, 0, LENGTHS)
    talks = [AuxiliaryConversations("source 0", 0.3, 0.5, random_conversations(0, 4))]
    stored = StoredSchedule(tmp_path / "schedule.arrow")
    opened = StepSchedule(parts, stored, prompt_tokens(0), talks, batching(epochs=2.0))
    assert len(opened) == len(made) > 3
    assert (opened.fingerprint, opened.cap_exceeded) == (made.fingerprint, made.cap_exceeded)
    digest = hashlib.sha256()
    for step in range(len(made)):
        digest.update(b"".join(made.sample_ids(step)) + b"step")
    assert stored.fingerprint == digest.hexdigest()
    for step in range(len(made)):
        assert opened.epoch(step) == made.epoch(step)
        assert opened.sample_ids(step) == made.sample_ids(step)
        for one, other in zip(opened.packs(step), made.packs(step), strict=True):
            np.testing.assert_array_equal(one.token_ids, other.token_ids)
            np.testing.assert_array_equal(one.weight, other.weight)
    with pytest.raises(StorageError, match="not the file of a schedule"):
        StoredSchedule(parts[0].path)
