"""The tokenizer of a base model of a world: what a line of history is made of is one token each."""

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from behaviorlm.events.normalization import WEEKDAYS
from behaviorlm_lab.world.generator import PLACES, Generator

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENIZER_SIZE = 1536
"""At most; a world's text has words for less."""
POSITIONS = 512
REPEATED = 200
"""How often the tokenizer sees each behavior, clock word and place: often enough to become one token."""
OF_TEXT = r"'s| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What is not of a line of history is cut into words, numbers and signs with the space before them."""


def make_tokenizer(world: Generator, texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE with ChatML control tokens and chat template.

    Each behavior after a space, each clock word ("Wed 18:") and each end of a line (" (home)" and its break) is one
    token. Any text encodes and decodes without loss.
    """
    clock = [f"{day} {hour:02d}:" for day in WEEKDAYS for hour in range(24)]
    words = [*clock, *(f" {name}" for name in world.names), *(f" ({place})\n" for place in PLACES)]
    of_line = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{of_line}|{OF_TEXT}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    control_tokens = [END_OF_TEXT, TURN_START, TURN_END]
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENIZER_SIZE,
        special_tokens=control_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *(REPEATED * words)], trainer)
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
