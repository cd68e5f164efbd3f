"""Whatever a predictor does, the queue goes on; where it does not, requests are refused and none waits forever."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from behaviorlm.predictor.answers import Prediction
from behaviorlm.predictor.behavior_model import BehaviorModel, Choices
from behaviorlm.predictor.histories import History
from behaviorlm.service.serving import Service
from tests.behaviorlm.predictor.small_artifacts import history
from tests.behaviorlm.service.conftest import Serve


class Panic(BaseException):
    """What compiled code raises: no Exception."""


class Panicking(BehaviorModel):
    """Cannot predict after two events."""

    def predict_histories(self, histories: Sequence[History], choices: Choices) -> list[Prediction]:
        if any(each.size == 2 for each in histories):
            raise Panic("secret")
        return super().predict_histories(histories, choices)


def test_a_panic_of_compiled_code_fails_one_request_and_no_other(
    serve: Serve, models: dict[str, BehaviorModel]
) -> None:
    client = serve("counts", "batch.wait_ms=60", model=Panicking(models["counts"].parts))
    with ThreadPoolExecutor(4) as clients:
        bodies = [{"history": history(number)} for number in (1, 2, 3, 4)]
        answers = list(clients.map(lambda body: client.post("/v1/predict", json=body), bodies))
    assert [each.status_code for each in answers] == [200, 500, 200, 200]
    assert "secret" not in answers[1].text
    assert client.post("/v1/predict", json={}).status_code == client.get("/readyz").status_code == 200


def test_what_comes_once_it_ends_is_refused(serve: Serve) -> None:
    client = serve()
    assert client.portal is not None
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    client.portal.call(service.close)
    for refused in (client.post("/v1/predict", json={}), client.get("/readyz")):
        assert refused.status_code == 503 and "about to end" in refused.json()["error"]
