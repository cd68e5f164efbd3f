"""TRL's SFTTrainer on the samples of `bench_tuning`, in an environment of TRL's own; asked by lines of JSON.

python benchmarks/trl_side.py   (by `bench_tuning --trl PYTHON`)

The first line says where base and adapter lie, what the samples are, and which settings there are; each further one
asks for a step with one of them: forward and backward of the batches that TRL's own loader made, by its own
`training_step`.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Answer until nothing is asked any more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.readline())
    base = AutoModelForCausalLM.from_pretrained(asked["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, asked["adapter"], is_trainable=True)
    tokenizer = AutoTokenizer.from_pretrained(asked["tokenizer"])
    label_tokens = sum(label >= 0 for labels in asked["labels"] for label in labels)
    with tempfile.TemporaryDirectory() as scratch:
        trainers = {
            name: _trainer(model, tokenizer, asked, settings, scratch)
            for name, settings in asked["settings"].items()
        }
        batches = {name: list(trainer.get_train_dataloader()) for name, trainer in trainers.items()}
        tokens = {name: sum(batch["input_ids"].numel() for batch in of) for name, of in batches.items()}
        told: Any = {"trl": trl.__version__, "tokens": tokens}
        print(json.dumps(told), file=answers, flush=True)
        for line in sys.stdin:
            told = _step(model, trainers, batches, label_tokens, json.loads(line))
            print(json.dumps(told), file=answers, flush=True)


def _trainer(
    model: Any, tokenizer: Any, asked: dict[str, Any], settings: dict[str, Any], scratch: str
) -> Any:
    config = trl.SFTConfig(
        output_dir=scratch,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=True,
        **settings,
    )
    samples = Dataset.from_dict({"input_ids": asked["token_ids"], "labels": asked["labels"]})
    return trl.SFTTrainer(model=model, args=config, train_dataset=samples, processing_class=tokenizer)


def _step(
    model: Any, trainers: dict[str, Any], batches: dict[str, Any], label_tokens: int, asked: dict[str, str]
) -> dict[str, float]:
    """One step; `gradients`: a file for them."""
    name = asked["name"]
    trainer, count = trainers[name], torch.tensor(label_tokens)
    model.zero_grad(set_to_none=True)
    copies = [dict(batch) for batch in batches[name]]
    started, loss = time.process_time(), 0.0
    for batch in copies:
        loss += float(trainer.training_step(model, batch, count))
    cpu = time.process_time() - started
    if "gradients" in asked:
        found = {key: of.grad.numpy() for key, of in model.named_parameters() if of.grad is not None}
        np.savez(Path(asked["gradients"]), **found)
    return {"cpu": cpu, "loss": loss}


if __name__ == "__main__":
    main()
