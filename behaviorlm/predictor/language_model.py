"""The language model of an artifact: loaded from its folder, and label scores of any names after prompts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from behaviorlm.errors import DataError, ModelError
from behaviorlm.model.adapters import load_trained, merged_where_exact
from behaviorlm.model.attention import TreeAttention
from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.model.base_model import load_model, model_fingerprint, weights_dtype
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.precision import bfloat16_units
from behaviorlm.predictor.artifact import OWN_BASE, Artifact, SharedTokens, Weights
from behaviorlm.predictor.histories import History
from behaviorlm.predictor.prefix_store import PrefixStore
from behaviorlm.predictor.prompts import Prompt, build_prompts, trees
from behaviorlm.prompts.encoder import PromptEncoder
from behaviorlm.scoring.kept_prefixes import KeptPrefix
from behaviorlm.scoring.label_scoring import LabelScorer, label_scorer
from behaviorlm.scoring.prompt_runs import PromptRun
from behaviorlm.trees.token_tree import Int32

logger = logging.getLogger(__name__)

TREE_SHARE = 4
"""A tree of prompts has at most a fourth of the tokens that may go through the model at a time. Histories of many users
share little, and the masked part of attention grows with the square: on a CPU, where 2,048 may, 32 of them took 8.0 ms
each in trees of 1,024 tokens with the embedded base, and 6.1 in trees of 512."""
KEPT_SCORERS = 8
"""Label tries that are kept for sets of names asked for again."""


@dataclass(frozen=True)
class Loading:
    """How a model is loaded. device: None for CUDA where there is any. base: a folder or hub name in place of the
    artifact's own base. max_tokens: tokens that go through the model at a time. prefix_bytes: memory for keys and
    values of histories whose requests name an owner; 0: none is kept.
    """

    device: str | None = None
    base: str | None = None
    trust_remote_code: bool = False
    max_tokens: int = 8192
    prefix_bytes: int = 0


@dataclass(frozen=True)
class LanguageModel:
    """A model with its tokenizer. instruction: what every prompt begins with, computed once.

    State: label tries of the sets of names that were asked for last, and where wanted prefixes of histories.
    """

    artifact: Artifact
    tokens: SharedTokens
    model: nn.Module
    attention: TreeAttention
    encoder: PromptEncoder
    max_tokens: int
    instruction: KeptPrefix | None = None
    prefixes: PrefixStore | None = None
    _scorers: dict[tuple[str, ...], LabelScorer] = field(default_factory=dict)

    def prompts(self, histories: Sequence[History], names: tuple[str, ...]) -> list[Prompt]:
        """The prompts after which any of the names may follow. Raises DataError where there is no room for them."""
        labels = self._scorer(self._among(names)).label_ids
        longest = max(map(len, labels)) - len(self.tokens.terminator_ids)
        usual = max(map(len, self.tokens.label_ids))
        return build_prompts(histories, self.encoder, self.artifact.prompt, self.tokens, max(longest, usual))

    def label_scores(self, prompts: Sequence[Prompt], names: tuple[str, ...]) -> NDArray[np.float32]:
        """log P(name, terminator | prompt), float32[n, names].

        Over a closed trie it is that of the whole vocabulary and of new names, whichever are asked for: what is denied
        takes its share with it, and does not change how the others compare.
        """
        among = self._among(names)
        scores = np.empty((len(prompts), len(among)), np.float32)
        instruction = np.array(self.tokens.instruction_ids, np.int32)
        scorer = self._scorer(among)
        for places, write in trees(prompts, instruction, scorer.max_tokens // TREE_SHARE):
            run = scorer.run(write, [self._kept(prompts[place]) for place in places])
            scores[places] = scorer.scores(run)
            for number, place in enumerate(places):
                self._keep(prompts[place], run, number)
        if among == names:
            return scores
        place_of = {name: place for place, name in enumerate(among)}
        return scores[:, [place_of[name] for name in names]]

    def _among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names that are scored together where these are asked for."""
        if self.artifact.normalization == "full":
            return names
        known = set(self.artifact.names)
        return self.artifact.names + tuple(name for name in names if name not in known)

    def _kept(self, prompt: Prompt) -> KeptPrefix | None:
        """The most that is there of a prompt's beginning."""
        known = None
        if self.prefixes is not None and prompt.owner is not None:
            known = self.prefixes.find(prompt.owner, self._history_ids(prompt))
        return self.instruction if known is None else known

    def _keep(self, prompt: Prompt, run: PromptRun, number: int) -> None:
        if self.prefixes is None or prompt.owner is None or self.instruction is None:
            return
        self.prefixes.keep(prompt.owner, run.prefix(number, len(self._history_ids(prompt))))

    def _history_ids(self, prompt: Prompt) -> Int32:
        """A prompt up to its question, which the next prompt does not begin with."""
        return np.concatenate([np.array(self.tokens.instruction_ids, np.int32), *prompt.runs])

    def _scorer(self, names: tuple[str, ...]) -> LabelScorer:
        known = self._scorers.pop(names, None)
        if known is None:
            known = label_scorer(
                self.model,
                self.attention,
                self._labels(names),
                self.max_tokens,
                self.artifact.normalization,
                self.artifact.temperature,
            )
        self._scorers[names] = known  # the one that was asked for last is the last
        while len(self._scorers) > KEPT_SCORERS:
            del self._scorers[next(iter(self._scorers))]
        return known

    def _labels(self, names: tuple[str, ...]) -> list[Int32]:
        terminator = np.array(self.tokens.terminator_ids, np.int32)
        encoded = self.encoder.encode_names(names)
        seen: dict[bytes, str] = {}
        for name, ids in zip(names, encoded, strict=True):
            other = seen.setdefault(ids.tobytes(), name)
            if not len(ids) or other != name:
                raise DataError(
                    f"the behavior {name!r} cannot be told from {other!r}: both become the same tokens"
                )
        return [np.concatenate([ids, terminator]) for ids in encoded]


def load_language_model(folder: Path, artifact: Artifact, loading: Loading) -> LanguageModel:
    """Load what the folder holds. Raises ModelError for another base, another tokenizer, code that may not run."""
    weights, tokens = artifact.weights, artifact.tokens
    assert weights is not None and tokens is not None
    device = loading.device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = _runnable(_base_config(folder, weights, loading), torch.device(device))
    if weights.form == "adapter":
        loaded: Any = merged_where_exact(load_trained(config, folder))
    else:
        loaded = load_model(config)
    model = loaded.to(device).eval().requires_grad_(False)
    encoder = PromptEncoder(_tokenizer(folder, loading), artifact.prompt)
    for behavior, stored, ids in zip(
        artifact.behaviors, tokens.label_ids, encoder.encode_names(artifact.names), strict=True
    ):
        if stored != ids.tolist():
            raise ModelError(
                f"{folder}: the tokenizer makes other tokens of {behavior.name!r} than when the model was exported; "
                "restore its files, or install the version of transformers that the card names"
            )
    attention = choose_attention(model)
    instruction = kept_instruction(model, attention, tokens)
    store = None
    if loading.prefix_bytes and instruction is not None:
        store = PrefixStore(loading.prefix_bytes, len(tokens.instruction_ids))
    return LanguageModel(artifact, tokens, model, attention, encoder, loading.max_tokens, instruction, store)


def kept_instruction(model: nn.Module, attention: TreeAttention, tokens: SharedTokens) -> KeptPrefix | None:
    """What every prompt begins with, as the model sees it; None where it takes no trees or there is nothing."""
    ids = np.array(tokens.instruction_ids, np.int32)
    if attention.kind == "plain" or not len(ids):
        return None
    run = label_scorer(model, attention, [ids], len(ids)).run(lambda writer: [writer.open(ids)])
    return run.prefix(0, len(ids))


def _base_config(folder: Path, weights: Weights, loading: Loading) -> ModelConfig:
    config = weights.base
    if config.trust_remote_code and not loading.trust_remote_code:
        raise ModelError(
            f"{folder}: the base model brings Python code of its own; load(…, trust_remote_code=True) lets it run"
        )
    changed: dict[str, Any] = {}
    if loading.base is not None:
        changed = {"base": loading.base, "revision": None}
    elif config.base in (".", OWN_BASE):
        changed = {"base": str(folder / config.base)}
    config = config.model_copy(update=changed)
    found = model_fingerprint(config) if weights.form != "merged" else weights.base_fingerprint
    if found != weights.base_fingerprint:
        raise ModelError(
            f"{config.base} is another base model than that of {folder} (fingerprint {found[:12]}…, not "
            f"{weights.base_fingerprint[:12]}…); give the one that it was tuned from, at the same revision"
        )
    return config


def _runnable(config: ModelConfig, device: torch.device) -> ModelConfig:
    """In float32 where the weights are bfloat16 and the device has no units for it: the same weights, faster there."""
    if weights_dtype(config) != torch.bfloat16 or bfloat16_units(device.type == "cuda") is not None:
        return config
    logger.warning(
        "model: its weights are in bfloat16, for which this machine has no units; they are held in float32: twice the "
        "memory, and scores that differ by rounding"
    )
    return config.model_copy(update={"dtype": "float32"})


def _tokenizer(folder: Path, loading: Loading) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=loading.trust_remote_code
        )
    # A damaged file surfaces as any of OSError, ValueError, KeyError, one of Rust code.
    except Exception as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded ({error}); export it again") from error
    return tokenizer
