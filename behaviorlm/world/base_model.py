"""A tiny base model that has read the synthetic world's text, as an ordinary transformers folder.

Synthetic, and a stand-in: it has about 0.4 million parameters, knows a few templates and nothing about real
language. It has read knowledge sentences and small talk, and never a log nor a prompt of this project.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from behaviorlm.errors import StorageError
from behaviorlm.world.process import PLACES, WORLD_VERSION, World, default_world
from behaviorlm.world.text import Conversation, knowledge_sentences, small_talk

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM_TEXT = "You are a friendly assistant."
TOKENIZER_SIZE = 768
POSITIONS = 512
RECIPE_FILE = "pretraining.json"

SENTENCES, CONVERSATIONS, SENTENCES_PER_DOCUMENT = 6000, 2000, 6


def make_base_model(
    folder: str | Path,
    seed: int = 0,
    steps: int = 480,
    knowledge: float = 1.0,
    world: World | None = None,
) -> Path:
    """Make tokenizer and model from the world's text and save them as a transformers folder (safetensors).

    Takes about half a minute on one CPU core; `knowledge` as in `text.knowledge_sentences`. For a seed the
    tokenizer has the same bytes, and the weights are the same up to float noise between machines. An existing
    `folder` is replaced, once the new one is complete. Recipe and loss curve are in `pretraining.json`.
    Raises StorageError (cannot write).
    """
    folder, world = Path(folder), world or default_world()
    sentences = knowledge_sentences(world, SENTENCES, seed, knowledge)
    conversations = small_talk(CONVERSATIONS, seed)
    tokenizer = make_tokenizer(world, sentences, conversations)
    documents = _documents(tokenizer, sentences, conversations)
    model, curve = pretrain(tokenizer, documents, seed, steps)
    recipe = {
        "note": "trained on synthetic text only",
        "world_version": WORLD_VERSION,
        "seed": seed,
        "steps": steps,
        "knowledge": knowledge,
        "sentences": SENTENCES,
        "conversations": CONVERSATIONS,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "curve": curve,
    }
    unfinished = folder.with_name(folder.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / RECIPE_FILE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except OSError as error:
        raise StorageError(f"cannot write the base model to {folder}: {error}") from error
    return folder


def make_tokenizer(
    world: World, sentences: list[str], conversations: list[Conversation]
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
    batch_size: int = 4,
    length: int = 192,
    learning_rate: float = 4e-3,
) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """Train a small Llama from random weights on windows of the shuffled documents, by a plain AdamW loop.

    Many small batches teach what follows from what sooner than few large ones; positions beyond `length` are
    untrained. Deterministic on one machine: one thread, all randomness from `seed`, global random state left
    alone. Returns the model (fp32, eval) and its loss curve (mean NLL in nats per token of each 20 steps).
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_model_config(tokenizer))
            stream = torch.tensor([t for i in torch.randperm(len(documents)).tolist() for t in documents[i]])
            return model, _train(model, stream, steps, batch_size, length, learning_rate)
        finally:
            torch.set_num_threads(threads)


def _model_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
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
        if len(losses) == 20 or step == steps - 1:
            curve.append({"step": step + 1, "loss": round(sum(losses) / len(losses), 5)})
            losses = []
    model.train(False)
    return curve


def _documents(
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
