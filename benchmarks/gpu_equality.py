"""Whether losses, gradients and scores on this device are those of plain sequences.

In float32 against the model run on each sequence alone; in bfloat16 against what bfloat16 itself costs there: the same
plain sequences in bfloat16 and in float32.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.tree_model import TreeModel, pack_tensors
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import Int32, TokenTree, TreeWriter, plain_sequences
from benchmarks.gpu_clock import Row
from benchmarks.gpu_scoring import NORMALIZATIONS, Windows, prompt_groups, prompt_writer
from benchmarks.gpu_shapes import DrawnLog, check_shape, drawn_log, drawn_model, with_adapter
from benchmarks.gpu_tuning import TuningArm, step_schedule

FLOAT32_TOLERANCE = 2e-4
"""Relative, for losses, gradients and scores; rounding of other orders of summation is 1e-6 to 1e-5 here."""
NOISE_FACTOR = 2.0
"""In bfloat16 trees may be off from float32 by so many times what plain sequences are."""

LARGEST_NOISE = 0.1
"""With more of it the two types do not hold the same weights."""


def tuning_equality(device: torch.device, is_tiny: bool) -> Row:
    """Loss and gradients of the adapter on the packs of a step, against each sample as a sequence of its own."""
    shape = check_shape(is_tiny)
    log = drawn_log(shape.config.vocab_size, 2 if is_tiny else 6, 6 if is_tiny else 40)
    packs = step_schedule(log, TuningArm(max_tokens=256 if is_tiny else 1024, packs=2)).packs(0)
    found: dict[str, tuple[float, Tensor]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        model = with_adapter(drawn_model(shape, device, dtype, gain=1.2), rank=4)
        with torch.no_grad():
            torch.manual_seed(1)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    # drawn on the CPU in float32, so that it is the same in both dtypes
                    parameter.copy_(torch.randn(parameter.shape) * 0.05)
        tree_model = TreeModel(model, choose_attention(model, allow_plain=False))
        name = str(dtype).removeprefix("torch.")
        found[f"tree {name}"] = _gradients(
            model, lambda pack, of=tree_model: of(pack_tensors(pack, device))[0], packs
        )
        found[f"plain {name}"] = _gradients(
            model, lambda pack, of=model: _plain_loss(of, pack, device), packs
        )
    return _compared(found, "loss", "gradient")


def scoring_equality(device: torch.device, is_tiny: bool) -> Row:
    """Label scores of both normalizations, against the model run on prompt and name, one sequence at a time."""
    shape = check_shape(is_tiny)
    log = drawn_log(
        shape.config.vocab_size, 2 if is_tiny else 4, 4 if is_tiny else 40, 12 if is_tiny else 122
    )
    groups = prompt_groups(log, 512, 4 if is_tiny else 20)
    prompts = _prompts(log, groups)
    row: Row = {"prompts": len(prompts), "labels": len(log.label_ids)}
    for normalization in NORMALIZATIONS:
        found: dict[str, tuple[float, Tensor]] = {}
        for dtype in (torch.float32, torch.bfloat16):
            model = drawn_model(shape, device, dtype, gain=1.2)
            attention = choose_attention(model, allow_plain=False)
            scorer = label_scorer(model, attention, log.label_ids, 4096, normalization)
            name = str(dtype).removeprefix("torch.")
            trees = torch.from_numpy(scorer.score(prompt_writer(log, groups)))
            plain = _plain_scores(model, prompts, log.label_ids, normalization == "trie", device)
            found[f"tree {name}"] = float(trees.double().mean()), trees.double()
            found[f"plain {name}"] = float(plain.mean()), plain
        row |= {f"{normalization} {key}": value for key, value in _compared(found, "mean", "scores").items()}
    row["equal"] = bool(row["full equal"] and row["trie equal"])
    return row


def _compared(found: dict[str, tuple[float, Tensor]], one: str, many: str) -> Row:
    exact = found["plain float32"]
    row: Row = {}
    for name in ("tree float32", "plain bfloat16", "tree bfloat16"):
        row[f"{one} {name}"] = abs(found[name][0] - exact[0]) / abs(exact[0])
        row[f"{many} {name}"] = float((found[name][1] - exact[1]).norm() / exact[1].norm())
    row["equal"] = (
        max(row[f"{one} tree float32"], row[f"{many} tree float32"]) <= FLOAT32_TOLERANCE
        and row[f"{many} tree bfloat16"] <= NOISE_FACTOR * row[f"{many} plain bfloat16"]
        and row[f"{many} plain bfloat16"] <= LARGEST_NOISE
    )
    return row


def _gradients(model: nn.Module, loss_of: object, packs: Sequence[TokenTree]) -> tuple[float, Tensor]:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.grad = None
    total = 0.0
    for pack in packs:
        loss = loss_of(pack)  # type: ignore[operator]
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([parameter.grad.double().flatten().cpu() for parameter in trainable])  # type: ignore[union-attr]


def _plain_loss(model: nn.Module, pack: TokenTree, device: torch.device) -> Tensor:
    """The weighted loss of a pack from each of its items alone, through the model's own forward."""
    losses = []
    for ids, read_outs in plain_sequences(pack):
        logits = model(input_ids=_tensor(ids, device)[None], use_cache=False).logits[0].float()
        at = _tensor(pack.depth[pack.source[read_outs]], device)
        chosen = torch.log_softmax(logits[at], -1).gather(1, _tensor(pack.target[read_outs], device)[:, None])
        losses.append(-(chosen[:, 0] * torch.from_numpy(pack.weight[read_outs]).to(device)).sum())
    return torch.stack(losses).sum()


@torch.no_grad()
def _plain_scores(
    model: nn.Module, prompts: Sequence[Int32], labels: Sequence[Int32], is_closed: bool, device: torch.device
) -> Tensor:
    """float64 [prompts, K]; closed: at each token a softmax over what some name has there after the same beginning."""
    follow: dict[tuple[int, ...], set[int]] = {}
    for label in labels:
        for place, token in enumerate(label.tolist()):
            follow.setdefault(tuple(label[:place].tolist()), set()).add(token)
    width = max(map(len, labels))
    scores = torch.zeros(len(prompts), len(labels), dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        ids = np.zeros((len(labels), len(prompt) + width - 1), np.int64)
        for number, label in enumerate(labels):
            ids[number, : len(prompt)] = prompt
            ids[number, len(prompt) : len(prompt) + len(label) - 1] = label[:-1]
        logits = model(input_ids=torch.from_numpy(ids).to(device), use_cache=False).logits[
            :, len(prompt) - 1 :
        ]
        logits = logits.double().cpu()
        for number, label in enumerate(labels):
            for place, token in enumerate(label.tolist()):
                among = logits[number, place]
                if is_closed:
                    among = among[sorted(follow[tuple(label[:place].tolist())])]
                scores[row, number] += logits[number, place, token] - torch.logsumexp(among, -1)
    return scores


def _prompts(log: DrawnLog, groups: Sequence[Windows]) -> list[Int32]:
    writer = TreeWriter()
    last = prompt_writer(log, groups)(writer)
    tree = writer.finish()
    return [tree.token_ids[tree.path_to(index)] for index in last]


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.int64)).to(device)
