"""A model of RecBole fitted to files of `bench_opponents`, in an environment of RecBole's own; writes its scores.

python benchmarks/recbole_side.py FOLDER MODEL EPOCHS PATIENCE MAX_EVENTS SEED RATE WRITTEN   (by `bench_opponents`)
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

NAME = "log"


def main() -> None:
    """One fit, stopped by RecBole's own validation, asked about the test samples."""
    folder, model, written = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[8])
    epochs, patience, max_events, seed = map(int, sys.argv[3:7])
    rate, begun = float(sys.argv[7]), time.process_time()
    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "checkpoints"),
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id", "place"]},
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "LIST_SUFFIX": "_list",
        "MAX_ITEM_LIST_LENGTH": max_events,
        "train_neg_sample_args": None,
        "learning_rate": rate,
        "epochs": epochs,
        "stopping_step": patience,
        "train_batch_size": 512,
        "eval_batch_size": 1024,
        "eval_args": {"mode": "full", "order": "TO", "group_by": None},
        "metrics": ["MRR"],
        "topk": [10],
        "valid_metric": "MRR@10",
        "seed": seed,
        "reproducibility": True,
        "show_progress": False,
        "use_gpu": False,
        "state": "WARNING",
    }
    config = Config(model=model, dataset=NAME, config_dict=settings)
    init_seed(seed, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    network = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    score, _ = trainer.fit(train, valid, verbose=False, show_progress=False)
    epochs_run = len(trainer.train_loss_dict)
    network.load_state_dict(torch.load(trainer.saved_model_file, weights_only=False)["state_dict"])
    np.save(written.with_suffix(".npy"), _scores(network.eval(), dataset, test))
    told = {"learning_rate": rate, "epochs": epochs_run, "validation_mrr": float(score)}
    told |= {"cpu_seconds": round(time.process_time() - begun, 1)}
    written.with_suffix(".json").write_text(json.dumps(told))


def _scores(network: Any, dataset: Any, test: Any) -> np.ndarray:
    """Log-probabilities of the behaviors, in the order of their numbers, by the samples' places."""
    behaviors = sum(token.isdigit() for token in dataset.field2id_token["item_id"])
    columns = dataset.token2id("item_id", [str(number) for number in range(behaviors)])
    scores, places = [], []
    with torch.inference_mode():
        for interaction, *_ in test:
            said = network.full_sort_predict(interaction).view(len(interaction), -1)
            scores.append(said[:, columns].log_softmax(1).numpy())
            places.append(interaction["place"].numpy().astype(np.int64))
    place = np.concatenate(places)
    result = np.empty((len(place), behaviors), np.float32)
    result[place] = np.concatenate(scores)
    return result


if __name__ == "__main__":
    main()
