"""A tiny base model that has read the synthetic world's text, as an ordinary transformers folder.

Synthetic, and a stand-in: it has about a million parameters, knows a few templates and nothing about real language.
It has read knowledge sentences and small talk, and never a log nor a prompt of this project. `behaviorlm/assets/base`
holds the one that the demo uses, made by `behaviorlm pretrain` with its defaults.
"""

import json
import logging
import math
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from behaviorlm.errors import StorageError
from behaviorlm_lab.pretraining.recipe import CONVERSATIONS, RECIPE_FILE, SENTENCES, SIZES, STEPS, Size
from behaviorlm_lab.world.generator import PLACES, Generator
from behaviorlm_lab.world.process import default_world
from behaviorlm_lab.world.text import Conversation, knowledge_sentences, small_talk

logger = logging.getLogger(__name__)

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM_TEXT = "You are a friendly assistant."
TOKENIZER_SIZE = 1024
POSITIONS = 512
SENTENCES_PER_DOCUMENT = 6
CURVE_STEPS = 20
HEAD_WIDTH = 32


def make_base_model(
    folder: str | Path,
    seed: int = 0,
    steps: int = STEPS,
    knowledge: float = 1.0,
    world: Generator | None = None,
    size: str = "base",
) -> Path:
    """Make tokenizer and model from the world's text and save them as a transformers folder (safetensors).

    Takes about ten minutes on one CPU core; `knowledge` as in `text.knowledge_sentences`. For a seed the
    tokenizer has the same bytes, and the weights are the same up to float noise between machines. An existing
    `folder` is replaced, once the new one is complete. Recipe and loss curve are in `pretraining.json`.
    Raises StorageError (cannot write).
    """
    folder, world = Path(folder), world or default_world()
    sentences = knowledge_sentences(world, SENTENCES, seed, knowledge)
    conversations = small_talk(CONVERSATIONS, seed)
    tokenizer = make_tokenizer(world, sentences, conversations)
    documents = documents_of(tokenizer, sentences, conversations)
    model, curve = pretrain(tokenizer, documents, seed, steps, SIZES[size])
    recipe = {
        "note": "trained on synthetic text only",
        "world": world.version,
        "size": size,
        "seed": seed,
        "steps": steps,
        "knowledge": knowledge,
        "sentences": SENTENCES,
        "conversations": CONVERSATIONS,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "curve": curve,
    }
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")  # others may be making the same one
    try:
        unfinished.mkdir(parents=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / RECIPE_FILE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except OSError as error:
        raise StorageError(f"cannot write the base model to {folder}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def make_tokenizer(
    world: Generator, sentences: list[str], conversations: list[Conversation]
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `TOKENIZER_SIZE` tokens with ChatML control tokens and chat template.

    Besides the text it sees each behavior name with a leading space, clock words and places, so that a
    history line takes few tokens. Any text encodes and decodes without loss.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    control_tokens = [END_OF_TEXT, TURN_START, TURN_END]
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_SIZE,
        special_tokens=control_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    clock = [
        f"{day} {hour:02d}:"
        for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        for hour in range(24)
    ]
    names = [f" {name}\n" for name in world.names]
    places = [f" ({place})\n" for place in PLACES]
    roles = ["system\n", "user\n", "assistant\n"]
    talk = [message["content"] for conversation in conversations for message in conversation]
    bpe.train_from_iterator([*sentences, *talk, *(20 * (clock + names + roles)), *(200 * places)], trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control_tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def pretrain(
    tokenizer: PreTrainedTokenizerFast,
    documents: list[list[int]],
    seed: int,
    steps: int,
    size: Size = SIZES["base"],
    batch_size: int = 8,
    length: int = 256,
    learning_rate: float = 3e-3,
) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """Train a small Llama from random weights on windows of the shuffled documents, by a plain AdamW loop.

    Many small batches teach what follows from what sooner than few large ones; positions beyond `length` are
    untrained. Deterministic on one machine: one thread, all randomness from `seed`, global random state left
    alone. Returns the model (fp32, eval) and its loss curve (mean NLL in nats per token of each CURVE_STEPS steps).
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_model_config(tokenizer, size))
            stream = torch.tensor([t for i in torch.randperm(len(documents)).tolist() for t in documents[i]])
            return model, _train(model, stream, steps, batch_size, length, learning_rate)
        finally:
            torch.set_num_threads(threads)


def _model_config(tokenizer: PreTrainedTokenizerFast, size: Size) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.inner_width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // HEAD_WIDTH,
        num_key_value_heads=size.width // HEAD_WIDTH,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def _train(
    model: LlamaForCausalLM,
    stream: torch.Tensor,
    steps: int,
    batch_size: int,
    length: int,
    learning_rate: float,
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    model.train()
    for step in range(steps):
        warmup = min(1.0, (step + 1) / max(1, steps // 20))
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warmup * max(0.05, decay)
        starts = torch.randint(len(stream) - length + 1, (batch_size,))
        windows = torch.stack([stream[start : start + length] for start in starts.tolist()])
        loss = model(input_ids=windows, labels=windows).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if len(losses) == CURVE_STEPS or step == steps - 1:
            curve.append({"step": step + 1, "loss": round(sum(losses) / len(losses), 5)})
            logger.info("step %d/%d: loss %.3f", step + 1, steps, curve[-1]["loss"])
            losses = []
    model.train(False)
    return curve


def documents_of(
    tokenizer: PreTrainedTokenizerFast, sentences: list[str], conversations: list[Conversation]
) -> list[list[int]]:
    """Token ids of each document, `END_OF_TEXT` at its end: knowledge as paragraphs, small talk as chats."""
    texts = [
        " ".join(sentences[start : start + SENTENCES_PER_DOCUMENT])
        for start in range(0, len(sentences), SENTENCES_PER_DOCUMENT)
    ]
    for index, conversation in enumerate(conversations):
        messages: list[Any] = [*conversation]
        if index % 2:
            messages.insert(0, {"role": "system", "content": SYSTEM_TEXT})
        texts.append(str(tokenizer.apply_chat_template(messages, tokenize=False)))
    return [tokenizer.encode(text + END_OF_TEXT, add_special_tokens=False) for text in texts]
