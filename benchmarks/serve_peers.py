"""What a FastAPI app with plain transformers looks like, as a peer of the service in `bench_serve`.

python -m benchmarks.serve_peers plain|shared --model DIR --port N

plain: each label is a sequence of its own behind the prompt, all labels of a request in one batch. shared: the
prompt's keys and values are computed once and repeated for the labels. Both read histories and write prompts as the
service does, so that what differs is how labels are scored.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from torch import Tensor
from transformers import DynamicCache

from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request as Asked
from behaviorlm_ray.console.command_line import option_parser

KINDS = ("plain", "shared")


class Scorer:
    """Label probabilities by plain transformers."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.predictor = BehaviorModel.load(folder, device="cpu")
        language_model = self.predictor.parts.language_model
        assert language_model is not None
        self.language_model, self.model = language_model, language_model.model
        tokens = language_model.tokens
        labels = [torch.tensor([*ids, *tokens.terminator_ids]) for ids in tokens.label_ids]
        self.lengths = torch.tensor([len(label) for label in labels])
        self.labels = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True)
        self.instruction = np.array(tokens.instruction_ids, np.int32)

    def probabilities(self, body: dict[str, Any]) -> list[float]:
        """Of all behaviors after a history."""
        request = Asked(body["history"], None, body["at"], body["earlier_events"])
        names = self.predictor.artifact.names
        [prompt] = self.language_model.prompts(self.predictor.read([request]), names)
        ids = torch.from_numpy(
            np.concatenate([self.instruction, *prompt.lines, prompt.question]).astype(np.int64)
        )
        with torch.inference_mode():
            logits = self._plain(ids) if self.kind == "plain" else self._shared(ids)
            told = torch.log_softmax(logits.float(), -1).gather(-1, self.labels[..., None])[..., 0]
            is_real = torch.arange(self.labels.shape[1])[None] < self.lengths[:, None]
            return torch.softmax((told * is_real).sum(1).double(), 0).tolist()

    def _plain(self, ids: Tensor) -> Tensor:
        rows = torch.cat([ids.expand(len(self.labels), -1), self.labels], 1)
        mask = torch.ones_like(rows)
        mask[:, len(ids) :] = torch.arange(self.labels.shape[1])[None] < self.lengths[:, None]
        logits: Tensor = self.model(input_ids=rows, attention_mask=mask, use_cache=False).logits
        return logits[:, len(ids) - 1 : -1]

    def _shared(self, ids: Tensor) -> Tensor:
        cache = DynamicCache()
        first = self.model(input_ids=ids[None], past_key_values=cache, use_cache=True).logits[:, -1:]
        cache.batch_repeat_interleave(len(self.labels))
        rest = self.model(input_ids=self.labels[:, :-1], past_key_values=cache, use_cache=True).logits
        return torch.cat([first.expand(len(self.labels), -1, -1), rest], 1)


def build_app(scorer: Scorer) -> FastAPI:
    """One path, answered on FastAPI's own threads."""
    app = FastAPI()
    names = scorer.predictor.artifact.names

    @app.post("/v1/predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        found = scorer.probabilities(body)
        best = sorted(range(len(names)), key=lambda place: -found[place])[: body["k"]]
        answers = [{"behavior": names[place], "probability": found[place]} for place in best]
        return {"predictions": [{"answers": answers}]}

    @app.get("/readyz")
    async def readyz(request: Request) -> dict[str, str]:
        return {"status": "ready"}

    return app


def main() -> None:
    """Serve until ended."""
    parser = option_parser(__doc__, None)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    uvicorn.run(build_app(Scorer(options.kind, options.model)), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
