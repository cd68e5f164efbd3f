"""A small tuning run for tests: a random model with an adapter, random trees, workers by fork."""

import functools
import gc
import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.kept_tail import kept_tail
from behaviorlm.model.tree_model import TreeModel
from behaviorlm.trees.closed_trie import build_closed_trie
from behaviorlm.trees.token_tree import TokenTree, TreeWriter
from behaviorlm_ray import storage
from behaviorlm_ray.storage import Location
from behaviorlm_ray.tuning.config import TuningConfig, TuningExecution
from behaviorlm_ray.tuning.engine import prepare_process
from behaviorlm_ray.tuning.worker import TuningTask, tune_rank

VOCABULARY = 61
LABELS = np.arange(2, 26)
"""The tokens that samples predict."""
SAMPLES_PER_PACK = 3
NAMES = [np.array(name, np.int32) for name in ([2, 3, 9], [2, 4, 9], [5, 9], [6, 7, 9], [6, 8, 9])]
TAIL = build_closed_trie(NAMES, 100).among(np.array([1, 2, 4]))
"""Of which some samples are held to a reference, where a toy has one."""


def toy_model(
    dtype: torch.dtype = torch.float32,
    adapter: bool = True,
    dropout: float = 0.0,
    tied: bool = False,
    labels: np.ndarray | None = None,
    held: bool = False,
) -> TreeModel:
    """A Llama of odd sizes, so that no tensor divides by 2 or 3 workers alike, with an adapter of rank 5."""
    torch.manual_seed(7)
    config: Any = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=20,
        intermediate_size=25,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        attention_dropout=dropout,
        tie_word_embeddings=tied,
    )
    config._attn_implementation = "sdpa"
    model: Any = LlamaForCausalLM(config)
    model = model.to(dtype)
    if adapter:
        model = get_peft_model(
            model, LoraConfig(r=5, lora_alpha=10, target_modules="all-linear", init_lora_weights=False)
        )
    term = kept_tail(TAIL, 2.0) if held else None
    return TreeModel(model, TreeAttention("full"), 3 if held else 2, labels, term)


def random_pack(random: np.random.Generator, weight: float, held: int = 0) -> TokenTree:
    """A shared beginning, SAMPLES_PER_PACK samples of part 0 and a conversation of part 1; some prompts are held."""

    def tokens(low: int, high: int) -> np.ndarray:
        return random.integers(1, VOCABULARY, random.integers(low, high)).astype(np.int32)

    writer = TreeWriter()
    writer.open(tokens(4, 12))
    for item in range(SAMPLES_PER_PACK):
        label = random.choice(LABELS, random.integers(1, 4)).astype(np.int32)
        writer.open(tokens(1, 5))
        writer.chain(label, weight=weight, part=0, item=item)
        if item < held:
            (piece,) = TAIL.pieces
            q = np.log(random.dirichlet(np.ones(3))).astype(np.float32)
            writer.kept_sample(piece.tree, piece.places, weight=weight, reference=q, part=2)
        writer.close()
    writer.close()
    conversation = tokens(6, 10)
    said = np.arange(len(conversation)) >= 3
    writer.chain(conversation, said, weight=0.1 * weight, part=1, item=SAMPLES_PER_PACK)
    return writer.finish()


@dataclass(frozen=True)
class ToySchedule:
    """`pack_counts[step]` packs in each step; the weights of a step's samples sum to one."""

    pack_counts: tuple[int, ...]
    fingerprint: str = "toy"
    held: bool = False

    def __len__(self) -> int:
        return len(self.pack_counts)

    @property
    def part_names(self) -> list[str]:
        return ["samples", "chat", "keep_tail"] if self.held else ["samples", "chat"]

    def packs(self, step: int) -> list[TokenTree]:
        random = np.random.default_rng([3, step])
        count = self.pack_counts[step]
        weight = 1.0 / (count * SAMPLES_PER_PACK)
        return [random_pack(random, weight, held=number % 3 if self.held else 0) for number in range(count)]

    def sample_ids(self, step: int) -> list[bytes]:
        first = sum(self.pack_counts[:step]) * SAMPLES_PER_PACK
        count = self.pack_counts[step] * SAMPLES_PER_PACK
        return [number.to_bytes(16, "big") for number in range(first, first + count)]


class WatchedPacks(list[TokenTree]):
    """Packs that do something when their step begins, not when they are made, which is while the one before runs."""

    def __init__(self, packs: Sequence[TokenTree], when_run: Callable[[], None]) -> None:
        super().__init__(packs)
        self._when_run = when_run

    def __len__(self) -> int:
        self._when_run()
        return super().__len__()


@dataclass(frozen=True)
class DyingSchedule(ToySchedule):
    """Kills the process that begins step `fatal_step` on worker `fatal_rank`, once (see the marker file)."""

    fatal_step: int = 0
    fatal_rank: int = 0
    marker: Path = Path()

    def packs(self, step: int) -> list[TokenTree]:
        packs = super().packs(step)
        return WatchedPacks(packs, self._die) if step == self.fatal_step else packs

    def _die(self) -> None:
        if dist.get_rank() == self.fatal_rank and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class HaltingSchedule(ToySchedule):
    """Worker 0 tells a named pipe when it begins step `last_step`, and waits there forever."""

    last_step: int = 0
    pipe: Path = Path()

    def packs(self, step: int) -> list[TokenTree]:
        packs = super().packs(step)
        return WatchedPacks(packs, self._halt) if step == self.last_step else packs

    def _halt(self) -> None:
        if dist.get_rank() == 0:
            self.pipe.write_text("here")
            signal.pause()


def toy_schedule(pack_counts: Sequence[int], held: bool = False) -> Callable[[], ToySchedule]:
    return functools.partial(ToySchedule, tuple(pack_counts), held=held)


def dying_schedule(
    pack_counts: Sequence[int], fatal_step: int, marker: Path, fatal_rank: int = 0
) -> Callable[[], ToySchedule]:
    return functools.partial(
        DyingSchedule, tuple(pack_counts), fatal_step=fatal_step, fatal_rank=fatal_rank, marker=marker
    )


def halting_schedule(pack_counts: Sequence[int], last_step: int, pipe: Path) -> Callable[[], ToySchedule]:
    return functools.partial(HaltingSchedule, tuple(pack_counts), last_step=last_step, pipe=pipe)


def save_trainable(model: nn.Module, folder: Path) -> None:
    """Save exactly the trainable parameters, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, folder / "trained.safetensors")


def trained_parameters(output_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(output_folder / "model" / "trained.safetensors")


def lineage_of(file: Location) -> list[dict[str, Any]]:
    """The lines of a lineage."""
    return [json.loads(line) for line in storage.read_text(file).splitlines()]


def assert_each_sample_once(lineage: Location, pack_counts: Sequence[int]) -> None:
    """The steps of a lineage used the samples of the toy schedule, in order."""
    lines, schedule = lineage_of(lineage), ToySchedule(tuple(pack_counts))
    used = [sample for line in lines for sample in line["sample_ids"]]
    assert used == [sample.hex() for step in range(len(schedule)) for sample in schedule.sample_ids(step)]
    assert sum(line["samples"] for line in lines) == len(used)


def toy_task(folder: Path, **changes: Any) -> TuningTask:
    """A task over four steps; `folder` gets checkpoints/ and output/."""
    defaults: dict[str, Any] = {
        "build_model": toy_model,
        "open_schedule": toy_schedule((4, 5, 1, 3)),
        "save_model": save_trainable,
        "config": TuningConfig(learning_rate=0.01, clip_norm=0.5, weight_decay=0.01),
        "execution": TuningExecution(zero_stage=1, progress_every_seconds=0),
        "checkpoint_folder": folder / "checkpoints",
        "output_folder": folder / "output",
        "base": "toy",
        "attempt": "first",
    }
    return TuningTask(**(defaults | changes))


def relative_distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of all parameters together over the norm of the right ones."""
    assert left.keys() == right.keys()
    a = torch.cat([left[name].double().flatten() for name in sorted(left)])
    b = torch.cat([right[name].double().flatten() for name in sorted(right)])
    return float((a - b).norm() / b.norm())


def run_workers(function: Callable[..., None], workers: int, *arguments: Any) -> list[int]:
    """Call function(*arguments) in `workers` processes joined by gloo. Returns their exit codes.

    The processes are forked from a server that has imported the heavy libraries once (see warm_server).
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.platform.warm_server"])
    # The server may have been started by another test, with that one's environment.
    storage = {
        name: value for name, value in os.environ.items() if name == "TMPDIR" or name.startswith("AWS_")
    }
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(
                target=_run_worker, args=(function, rank, workers, f"{folder}/store", storage, arguments)
            )
            for rank in range(workers)
        ]
        for process in processes:
            process.start()
        _wait_for_all(processes)
    return [int(process.exitcode or 0) for process in processes]


def tune_without_ray(task: TuningTask, workers: int) -> list[int]:
    return run_workers(_tune, workers, task)


def _wait_for_all(processes: Sequence[Any]) -> None:
    """Wait until all have ended; when one fails, the others would wait for it forever, so they are killed."""
    waiting = list(processes)
    while waiting:
        ended = multiprocessing.connection.wait([process.sentinel for process in waiting])
        waiting = [process for process in waiting if process.sentinel not in ended]
        if any(process.exitcode for process in processes if process not in waiting):
            for process in waiting:
                process.kill()


def _run_worker(
    function: Callable[..., None],
    rank: int,
    workers: int,
    store: str,
    storage: dict[str, str],
    arguments: tuple[Any, ...],
) -> None:
    gc.freeze()  # ZeRO-3 collects garbage when it starts, which takes long among all that the server has imported
    os.environ.update(storage)
    tempfile.tempdir = None
    prepare_process(TuningExecution())
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    dist.init_process_group("gloo", store=dist.FileStore(store, workers), rank=rank, world_size=workers)
    function(*arguments)
    dist.barrier()
    dist.destroy_process_group()


def _tune(task: TuningTask) -> None:
    tune_rank(task, lambda metrics: None)
