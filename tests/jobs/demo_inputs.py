"""The demo's configuration with small inputs of one's own, for jobs that are started by a command line."""

import json
from pathlib import Path
from typing import Any

from tests.platform.lab.world_logs import write_log
from tests.platform.small_runs import save_base, write_conversations


def demo_inputs(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Overrides with absolute paths below `folder`, where the files are made, and those of `settings` by key."""
    write_log(folder / "events.jsonl.gz", 12, seed=0)
    save_base(folder / "base")
    write_conversations(folder / "talks.jsonl")
    made = {
        "storage.root": str(folder / "runs"),
        "events.paths": [str(folder / "events.jsonl.gz")],
        "model.base": str(folder / "base"),
        "auxiliary.0.paths": [str(folder / "talks.jsonl")],
        "auxiliary.1.paths": [str(folder / "talks.jsonl")],
        "evaluation.cloze": None,
        "execution.tuning.workers": 1,
    }
    return [f"--{key}={json.dumps(value)}" for key, value in (made | settings).items()]
