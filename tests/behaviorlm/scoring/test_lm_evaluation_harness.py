"""Label scores are the log-likelihoods that lm-evaluation-harness computes for the same token ids."""

import numpy as np
import pytest
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerFast

from behaviorlm.model.attention_choice import choose_attention
from behaviorlm.scoring.label_scoring import label_scorer
from behaviorlm.trees.token_tree import TreeWriter
from tests.behaviorlm.tiny_models import CONFIGS, random_tokens, tiny_model


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_label_scores_equal_the_harness_on_the_same_ids(
    name: str, chat_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model(CONFIGS[name])
    random = np.random.default_rng(1)
    labels = [np.append(random_tokens(random, 1, 4), 2).astype(np.int32) for _ in range(20)]
    labels = [*{tuple(label.tolist()): label for label in labels}.values()]
    instruction = random_tokens(random, 3, 6)
    prompts = [random_tokens(random, 3, 20) for _ in range(5)]

    def write(writer: TreeWriter) -> list[int]:
        writer.open(instruction)
        return [writer.leaf(prompt) for prompt in prompts]

    scores = label_scorer(model, choose_attention(model), labels, 500).score(write)
    harness = HFLM(pretrained=model, tokenizer=chat_tokenizer, batch_size=8, max_length=256)
    requests = [
        (("", ""), [*instruction.tolist(), *prompt.tolist()], label.tolist())
        for prompt in prompts
        for label in labels
    ]
    expected = [result[0] for result in harness._loglikelihood_tokens(requests, disable_tqdm=True)]
    np.testing.assert_allclose(scores.ravel(), expected, rtol=0, atol=1e-4)
