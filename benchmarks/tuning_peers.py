"""What others do to tune on many samples of a user: packed sequences, streams with isolated targets, TRL, and our code
of before.

The first two are plain torch around the caller's own model and adapter; both run the LM head on labels alone. The
others run in processes of their own, on the same base and adapter, read from a folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from behaviorlm.model.adapters import AdaptedModel, save_trained
from behaviorlm.model.lm_head import causal_lm, target_log_probabilities
from behaviorlm.model.tree_model import body_of
from behaviorlm.timelines.parts import Int64, SampleReadOut, write_window
from behaviorlm.training.packs import Batching, StepSchedule
from behaviorlm.training.schedule import fit_packs
from behaviorlm.trees.token_tree import TokenTree, TreeWriter, plain_sequences
from benchmarks.gpu_shapes import EMBEDDED, DrawnLog
from benchmarks.sides import CheckoutSide, Side

ROW_LENGTHS = (256, 512, 1024)
STREAMS = (1, 4, 16)
"""Streams in a batch that are tried."""
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""Token ids and positions [B, W], mask [B, 1, W, W] that is added, flat places, targets and weights of labels [R]."""
Run = Callable[[], None]


@dataclass(frozen=True)
class Step:
    """The first step of a tuning on some rows of a log. packs, ids: its token trees, and its samples."""

    log: DrawnLog
    rows: Int64
    batching: Batching
    packs: list[TokenTree]
    ids: list[bytes]


def first_step(log: DrawnLog, rows: Int64, batching: Batching) -> Step:
    """As our schedule has it."""
    schedule = StepSchedule([log.part], [rows], log.prompt, [], batching)
    return Step(log, rows, batching, schedule.packs(0), schedule.sample_ids(0))


def peer_runs(model: nn.Module, packs: Sequence[TokenTree]) -> dict[str, dict[str, Run]]:
    """By peer and setting, what runs forward and backward of the samples of some packs."""
    packed = {f"packed {length}": packed_rows(packs, length) for length in ROW_LENGTHS}
    streams = [stream for pack in packs for stream in single_streams(pack)]
    isolated = {f"dti, {size} streams": batched(streams, size, None) for size in STREAMS}
    return {
        peer: {name: partial(run_batches, model, batches) for name, batches in settings.items()}
        for peer, settings in (("packed", packed), ("dti", isolated))
    }


def packed_rows(packs: Sequence[TokenTree], length: int) -> list[Batch]:
    """The samples of some packs as sequences, best-fit into rows of a length, a mask by sample."""
    sequences = [plain_tree(*each) for each in samples_of(packs)]
    sizes = list(map(len, sequences))
    length = max(length, *sizes)
    rows = [joined([sequences[index] for index in row]) for row in fit_packs(sizes, length)]
    return [batch for row in rows for batch in batched([row], 1, None)]


def samples_of(packs: Sequence[TokenTree]) -> list[tuple[TokenTree, NDArray[np.int32], NDArray[np.int64]]]:
    """Each sample of some packs: the pack, its token ids, and which of the pack's read-outs are its own."""
    return [(pack, ids, read_outs) for pack in packs for ids, read_outs in plain_sequences(pack)]


def plain_tree(pack: TokenTree, ids: NDArray[np.int32], read_outs: NDArray[np.int64]) -> TokenTree:
    """A sample as a tree without a branch."""
    count = len(ids)
    return TokenTree(
        ids,
        np.arange(count, dtype=np.int32),
        np.full(count, count, np.int32),
        pack.depth[pack.source[read_outs]],
        pack.target[read_outs],
        pack.weight[read_outs],
        pack.part[read_outs],
        pack.item[read_outs],
    )


def joined(trees: Sequence[TokenTree]) -> TokenTree:
    """Trees one after the other."""
    starts = np.cumsum([0, *map(len, trees)])[:-1].astype(np.int32)

    def all_of(name: str, is_moved: bool = False) -> Any:
        pieces = [getattr(tree, name) for tree in trees]
        return np.concatenate(
            [piece + start if is_moved else piece for piece, start in zip(pieces, starts, strict=True)]
        )

    return TokenTree(
        all_of("token_ids"),
        all_of("depth"),
        all_of("end", True),
        all_of("source", True),
        *(all_of(name) for name in ("target", "weight", "part", "item")),
    )


def single_streams(pack: TokenTree) -> list[TokenTree]:
    """A stream for each window of a pack, as Dynamic Target Isolation lays a user out (arXiv 2503.01001): instruction,
    history, and each target after what precedes it, where no other token sees it.

    The pack has one instruction and no conversations.
    """
    last = 0
    while last + 1 < len(pack) and pack.end[last + 1] == len(pack):
        last += 1
    trunk = np.arange(last + 1)
    found, child = [], last + 1
    if child == len(pack):
        return [pack]
    while child < len(pack):
        stop = int(pack.end[child])
        taken = np.concatenate([trunk, np.arange(child, stop)])
        is_own = (pack.source >= child) & (pack.source < stop)
        found.append(
            TokenTree(
                pack.token_ids[taken],
                pack.depth[taken],
                np.searchsorted(taken, pack.end[taken]).astype(np.int32),
                np.searchsorted(taken, pack.source[is_own]).astype(np.int32),
                *(getattr(pack, name)[is_own] for name in ("target", "weight", "part", "item")),
            )
        )
        child = stop
    return found


def whole_streams(log: DrawnLog, users: int) -> list[TokenTree]:
    """A stream for each of the first users, all events and all targets in it; weights sum the mean over samples."""
    part = log.part
    whole = replace(part, window_start=part.user_start)
    rows = part.targets("train")
    starts = np.unique(part.user_start)[:users]
    weight = 1 / int(np.isin(part.user_start[rows], starts).sum())
    found = []
    for start in starts:
        chosen = rows[part.user_start[rows] == start]
        writer = TreeWriter()
        writer.open(log.prompt.instruction_ids)
        read_outs = [SampleReadOut(log.label_ids[part.behavior[row]], weight) for row in chosen]
        write_window(writer, whole, chosen, read_outs, 0)
        found.append(writer.finish())
    return found


def batched(trees: Sequence[TokenTree], size: int, window: tuple[int, int] | None) -> list[Batch]:
    """Trees as padded batches, each with a dense mask: what a token sees are its ancestors.

    window: (first, tokens), of the ancestors those of a position below `first`, and the nearest `tokens`; None: all.
    """
    ordered = sorted(trees, key=len)
    return [_batch(ordered[start : start + size], window) for start in range(0, len(ordered), size)]


def _batch(trees: Sequence[TokenTree], window: tuple[int, int] | None) -> Batch:
    width = max(map(len, trees))
    ids, depth = np.zeros((2, len(trees), width), np.int64)
    seen = np.tile(np.eye(width, dtype=bool), (len(trees), 1, 1))
    index = np.arange(width)
    for row, tree in enumerate(trees):
        count = len(tree)
        ids[row, :count], depth[row, :count] = tree.token_ids, tree.depth
        own = (index[:count] <= index[:count, None]) & (index[:count, None] < tree.end)
        if window is not None:
            own &= (tree.depth < window[0]) | (tree.depth[:, None] - tree.depth < window[1])
        seen[row, :count, :count] = own
    mask = np.where(seen, 0.0, np.finfo(np.float32).min).astype(np.float32)
    places = np.concatenate([row * width + tree.source for row, tree in enumerate(trees)]).astype(np.int64)
    targets = np.concatenate([tree.target for tree in trees]).astype(np.int64)
    weights = np.concatenate([tree.weight for tree in trees])
    found = map(torch.from_numpy, (ids, depth, mask[:, None], places, targets, weights))
    token_ids, positions, masks, place, target, weight = found
    return token_ids, positions, masks, place, target, weight


def run_batches(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Forward and backward of each batch. A model with windows of its own gets the mask where they cut nothing."""
    kinds = set(getattr(causal_lm(model).config, "layer_types", None) or [])
    for token_ids, positions, mask, places, targets, weights in batches:
        masks: Any = dict.fromkeys(kinds, mask) if len(kinds) > 1 else mask
        output = body_of(model)(
            input_ids=token_ids, position_ids=positions, attention_mask=masks, use_cache=False
        )
        states = output.last_hidden_state.flatten(0, 1)[places]
        (-target_log_probabilities(model, states, targets) * weights).sum().backward()


def trl_settings(longest: int) -> dict[str, dict[str, Any]]:
    """Packing as documented, and batches of samples of similar lengths. longest: no sample may be cut to a row."""
    packed = {
        f"trl packed {length}": {
            "packing": True,
            "packing_strategy": "bfd",
            "max_length": max(length, longest),
            "per_device_train_batch_size": 1,
        }
        for length in ROW_LENGTHS
    }
    by_length = {
        f"trl by length, {size}": {
            "max_length": None,
            "per_device_train_batch_size": size,
            "train_sampling_strategy": "group_by_length",
        }
        for size in (2, 8)
    }
    return packed | by_length


class StepSide(Side):
    """A step in another process. State: the process.

    folder: with the base and the adapter. tokens: those that go through the model by each of its settings. factor:
    what its gradients are multiplied by to be those of ours. told: what records say of it.
    """

    folder: Path
    tokens: dict[str, int]
    factor = 1.0
    told: dict[str, Any]

    def seconds(self, name: str) -> float:
        """CPU seconds of one step."""
        return float(self.answer(name=name)["cpu"])

    def gradients(self, name: str) -> dict[str, Tensor]:
        """Those of a step, by parameter, on our scale."""
        file = self.folder / "gradients.npz"
        self.answer(name=name, gradients=str(file))
        with np.load(file) as found:
            return {key: torch.from_numpy(found[key] * np.float32(self.factor)) for key in found}


class Trl(StepSide):
    """TRL's trainer on the samples of a step. Its loss is the mean over label tokens."""

    def __init__(self, python: str, folder: Path, tokenizer: str, step: Step) -> None:
        here = Path(__file__).with_name("trl_side.py")
        super().__init__([python, "-W", "ignore", str(here)], {"HF_HUB_OFFLINE": "1"})
        self.folder = folder
        token_ids, labels = zip(*map(_sample, samples_of(step.packs)), strict=True)
        count = sum(label >= 0 for of in labels for label in of)
        self.factor = float(count * step.packs[0].weight[0])
        found = self.answer(
            base=str(folder / "base"),
            adapter=str(folder / "adapter"),
            tokenizer=tokenizer,
            token_ids=token_ids,
            labels=labels,
            settings=trl_settings(max(map(len, token_ids))),
        )
        self.tokens = found["tokens"]
        self.told = {"trl": found["trl"], "tokens_of_settings": self.tokens}


class Before(CheckoutSide, StepSide):
    """The code of another checkout on the samples of a step, which it schedules and lays out itself.

    Raises SystemExit where its schedule has other samples in that step.
    """

    def __init__(self, checkout: Path, folder: Path, step: Step) -> None:
        super().__init__(
            checkout,
            Path(__file__).with_name("tuning_of_checkout.py"),
            base=str(folder / "base"),
            adapter=str(folder / "adapter"),
            **schedule_of(step),
        )
        if sorted(self.found["ids"]) != sorted(each.hex() for each in step.ids):
            raise SystemExit(f"{checkout}: has other samples in the first step")
        self.folder, tokens = folder, self.found["tokens"]
        self.tokens, self.told = {"before": tokens}, {"peer_tokens": tokens}


def schedule_of(step: Step) -> dict[str, Any]:
    """What another process needs to schedule a step, in JSON."""
    part = step.log.part
    runs = {name: getattr(part, name) for name in ("lines", "questions")}
    names = ("user_start", "window_start", "behavior", "split", "is_target", "is_repeat", "sample_id")
    return {
        "prompt": step.log.prompt.to_json(),
        "runs": {name: [of.values.tolist(), of.offsets.tolist()] for name, of in runs.items()},
        "columns": {name: getattr(part, name).tolist() for name in names},
        "rows": step.rows.tolist(),
        "batching": asdict(step.batching),
    }


def save_weights(model: AdaptedModel, folder: Path) -> None:
    """The adapter of a model, for other processes; its base is put there by `save_base`."""
    save_trained(model, folder / "adapter")


def save_base(model: Any, folder: Path) -> None:
    """The base without an adapter, before one is added."""
    model.save_pretrained(folder / "base")


def _sample(each: tuple[TokenTree, NDArray[np.int32], NDArray[np.int64]]) -> tuple[list[int], list[int]]:
    pack, ids, read_outs = each
    targets, places = pack.target[read_outs], pack.depth[pack.source[read_outs]] + 1
    token_ids = np.append(ids, targets[-1])
    labels = np.full(len(token_ids), -100)
    labels[places] = targets
    return token_ids.tolist(), labels.tolist()


TOKENIZER = EMBEDDED.base
"""Of drawn models: it only says what padding is."""
