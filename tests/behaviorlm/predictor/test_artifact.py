"""The folder: what it holds and does not hold, who else opens it, what is refused; the first version for ever."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from behaviorlm.errors import ConfigError, DataError, ModelError
from behaviorlm.predictor.artifact import DESCRIPTION, read_artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.predictor.requests import Request
from tests.behaviorlm.predictor.small_artifacts import history, write_artifact

GOLDEN = Path(__file__).parent / "golden_v1"
"""Written by the first version of the schema; never write it again: `golden_v1_answers.json` is what it said then."""
REQUESTS = [Request(history(number), {"room": "hall"}, "2024-03-03T10:00:00Z") for number in (0, 1, 4, 9)]


def changed(folder: Path, target: Path, change: dict[str, Any]) -> Path:
    """A copy whose description has other values; None removes a key."""
    shutil.copytree(folder, target)
    described = json.loads((target / DESCRIPTION).read_text(encoding="utf-8")) | change
    kept = {key: value for key, value in described.items() if value is not None}
    (target / DESCRIPTION).write_text(json.dumps(kept), encoding="utf-8")
    return target


def answers(model: BehaviorModel) -> list[list[float]]:
    return [[answer.probability for answer in one.answers] for one in model.predict_many(REQUESTS, k=8)]


def test_the_first_version_opens_and_answers_as_it_did() -> None:
    model = BehaviorModel.load(GOLDEN, device="cpu")
    expected = json.loads((GOLDEN.parent / "golden_v1_answers.json").read_text(encoding="utf-8"))
    for found, one in zip(model.predict_many(REQUESTS, k=8), expected, strict=True):
        assert [answer.behavior for answer in found.answers] == [answer["behavior"] for answer in one]
        assert [answer.probability for answer in found.answers] == pytest.approx(
            [answer["probability"] for answer in one], abs=1e-5
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "schema_version is 2, and this version of behaviorlm reads 1"),
        ({"schema_version": None}, "schema_version is None"),
        ({"colour": 1}, "colour: unknown key"),
        ({"predictor": {"kind": "oracle"}}, "oracle"),
        ({"decision": {"kind": "logit_adjusted"}}, "tau"),
        (
            {"decision": {"kind": "bayes", "shift": [0.0, 1.0]}},
            "decision.shift has 2 numbers for 8 behaviors",
        ),
        ({"decision": {"kind": "fitted", "tail_scale": 0, "tail_shift": 0, "tau": 0}}, "tail_scale"),
        ({"counting": None}, "predictor.kind is 'counts', but counting is missing"),
    ],
)
def test_another_description_is_refused_by_name(
    folders: dict[str, Path], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_artifact(changed(folders["counts"], tmp_path / "changed", change))


def test_damage_is_refused_by_the_files_name(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(folders["fused"], folder)
    weights = bytearray((folder / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "counts.arrow").unlink()
    with pytest.raises(
        DataError, match=r"(?s)adapter_model.safetensors has changed.*counts.arrow is missing"
    ):
        BehaviorModel.load(folder)
    (folder / DESCRIPTION).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not readable JSON"):
        BehaviorModel.load(folder)


@pytest.mark.parametrize("place", ["absent", "absent/folder", Path("owner/name"), "."])
def test_a_place_without_an_artifact_is_refused(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"there is no folder|holds no behaviorlm.json"):
        BehaviorModel.load(place)


def test_a_folder_works_wherever_it_lies_and_holds_no_path(
    tiny_base: Path, folders: dict[str, Path], models: dict[str, BehaviorModel], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folders["fused"], moved)
    assert answers(BehaviorModel.load(moved, device="cpu")) == answers(models["fused"])
    planted = moved / "planted.json"
    planted.write_text(str(tiny_base), encoding="utf-8")
    needle = str(tiny_base.parent).encode()
    assert [path for path in sorted(moved.rglob("*")) if path.is_file() and needle in path.read_bytes()] == [
        planted
    ]


def test_an_adapter_loads_with_peft_alone(folders: dict[str, Path], models: dict[str, BehaviorModel]) -> None:
    base = AutoModelForCausalLM.from_pretrained(folders["model"] / "base")
    network: Any = PeftModel.from_pretrained(base, str(folders["model"])).eval()
    language = models["model"].parts.language_model
    assert language is not None
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        difference = network(ids).logits - language.model(ids).logits
    assert difference.abs().max() < 1e-5
    tokenizer = AutoTokenizer.from_pretrained(folders["model"])
    assert tokenizer.chat_template == language.encoder.tokenizer.chat_template


def test_merged_weights_load_with_transformers_alone_and_score_the_same(
    tiny_base: Path, models: dict[str, BehaviorModel], tmp_path: Path
) -> None:
    artifact = write_artifact(tmp_path / "merged", tiny_base, "model", merged=True)
    assert artifact.weights is not None and artifact.weights.form == "merged"
    assert not (tmp_path / "merged" / "base").exists()
    merged = BehaviorModel.load(tmp_path / "merged", device="cpu")
    histories = merged.read(REQUESTS)
    assert (
        np.abs(merged.parts.label_scores(histories) - models["model"].parts.label_scores(histories)).max()
        < 1e-4
    )
    assert merged.parts.language_model is not None
    network: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert (network(ids).logits - merged.parts.language_model.model(ids).logits).abs().max() < 1e-5


def test_another_base_or_tokenizer_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from tests.platform.small_runs import save_base

    other = save_base(tmp_path / "other", seed=7)
    with pytest.raises(ModelError, match="is another base model than that of"):
        BehaviorModel.load(folders["model"], base=str(other))
    stored = json.loads((folders["model"] / DESCRIPTION).read_text(encoding="utf-8"))
    stored["tokens"]["label_ids"][2] = [1, 2, 3]
    with pytest.raises(ModelError, match="the tokenizer makes other tokens of 'door'"):
        BehaviorModel.load(changed(folders["model"], tmp_path / "tokens", {"tokens": stored["tokens"]}))
    stored["weights"]["base"]["trust_remote_code"] = True
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        BehaviorModel.load(changed(folders["model"], tmp_path / "code", {"weights": stored["weights"]}))


def test_counting_alone_loads_neither_torch_nor_transformers(folders: dict[str, Path]) -> None:
    script = (
        "import sys\nfrom behaviorlm.predictor.behavior_model import BehaviorModel\n"
        f"BehaviorModel.load({str(folders['counts'])!r}).predict([{{'behavior': 'door'}}])\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'ray', 'boto3') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
