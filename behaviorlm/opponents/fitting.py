"""Networks fitted to the training targets, watched on validation, and asked about rows of the log."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from behaviorlm.baselines.timelines import TimelineArrays
from behaviorlm.opponents.budget import MOST_WATCHED, Fit, NetworkBudget, best_place
from behaviorlm.opponents.networks import NetworkName, Recurrent, Transformer, network
from behaviorlm.opponents.windows import (
    FIRST,
    CodedLog,
    Int64,
    Windows,
    coded_log,
    evenly,
    fitting_rows,
    training_chunks,
    windows_until,
)

ROWS_AT_A_TIME = 1024
"""Windows that go through a network together where it is asked (our choice)."""


@dataclass(frozen=True)
class FittedNetwork:
    """A fitted network. log: that it was fitted on; max_events: of the history that it sees; fits: of the search."""

    name: NetworkName
    network: Transformer | Recurrent
    log: CodedLog
    max_events: int
    fits: tuple[Fit, ...]
    device: torch.device

    def predict(self, timelines: TimelineArrays, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probabilities float32[len(rows), K]. timelines: with the context of those that it was fitted on."""
        return _asked(self, replace(self.log, timelines=timelines), np.asarray(rows, np.int64))


def window_length(name: NetworkName, max_events: int) -> int:
    """Places of a window. A place of SASRec and GRU4Rec shows the event before it, one of BERT4Rec its own or none."""
    return max_events + 1 if name == "bert4rec" else max_events


def fit_network(
    name: NetworkName,
    timelines: TimelineArrays,
    max_events: int,
    seed: int,
    budget: NetworkBudget,
    device: str = "cpu",
) -> FittedNetwork:
    """The best of one fit for each learning rate. Deterministic in the seed, on one machine."""
    log = coded_log(timelines)
    train, validation = fitting_rows(timelines)
    watched = evenly(validation, MOST_WATCHED)
    rates = budget.learning_rates if len(watched) else budget.learning_rates[:1]
    fits: list[Fit] = []
    states: list[dict[str, Tensor]] = []
    place = torch.device(device)
    length = window_length(name, max_events)
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        for rate in rates:
            torch.manual_seed(seed)
            found = network(name, timelines.behaviors, log.sizes, length, budget).to(place)
            fitted = FittedNetwork(name, found, log, max_events, (), place)
            fit, state = _fit(fitted, train, watched, rate, seed, budget)
            fits.append(fit)
            states.append(state)
    found.load_state_dict(states[best_place(fits)])
    return FittedNetwork(name, found.eval(), log, max_events, tuple(fits), place)


def _fit(
    fitted: FittedNetwork, train: Int64, watched: Int64, rate: float, seed: int, budget: NetworkBudget
) -> tuple[Fit, dict[str, Tensor]]:
    """The fit, and the weights of its best epoch."""
    chance = np.random.default_rng([seed, 17])
    optimizer = torch.optim.Adam(fitted.network.parameters(), lr=rate)
    best, state = Fit(rate, 0, None), _state(fitted)
    epochs = budget.most_epochs if len(watched) else budget.epochs_unwatched
    for epoch in range(1, epochs + 1):
        fitted.network.train()
        for inputs in _steps(fitted, train, budget, chance):
            optimizer.zero_grad(set_to_none=True)
            _loss(fitted, inputs).backward()
            optimizer.step()
        loss = _watched_loss(fitted, watched) if len(watched) else None
        if loss is None or best.loss is None or loss < best.loss:
            best, state = Fit(rate, epoch, loss), _state(fitted)
        elif epoch - best.rounds >= budget.patience:
            break
    return best, state


def _state(fitted: FittedNetwork) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in fitted.network.state_dict().items()}


@dataclass(frozen=True)
class _Inputs:
    """Windows as tensors. asked: bool[b, L], places whose behavior is asked for; targets: int64[b, L], vocabulary
    indexes there.
    """

    events: Tensor
    context: Tensor
    is_there: Tensor
    asked: Tensor
    targets: Tensor


def _inputs(fitted: FittedNetwork, log: CodedLog, windows: Windows, asked: NDArray[np.bool_]) -> _Inputs:
    """asked: bool[b, L]."""
    own = log.behavior(windows.rows)
    if fitted.name == "bert4rec":
        events = np.where(asked, fitted.network.embedding.hidden_code, own)
    else:
        events = log.previous(windows.rows)
    context = log.context(windows.rows)
    arrays: tuple[NDArray[Any], ...] = (
        np.where(windows.is_there, events, 0),
        np.where(windows.is_there[..., None], context, 0),
        windows.is_there,
        asked,
        own - FIRST,
    )
    return _Inputs(*(torch.from_numpy(array).to(fitted.device) for array in arrays))


def _steps(
    fitted: FittedNetwork, train: Int64, budget: NetworkBudget, chance: np.random.Generator
) -> Iterator[_Inputs]:
    """One epoch, in steps."""
    log, length = fitted.log, window_length(fitted.name, fitted.max_events)
    chunks = training_chunks(log, train, length, chance)
    is_target = np.zeros(log.rows, np.bool_)
    is_target[train] = True
    order = chance.permutation(len(chunks.last))
    step = max(1, round(budget.targets_per_step * len(order) / max(1, len(train))))
    for begin in range(0, len(order), step):
        chosen = order[begin : begin + step]
        last, first = chunks.last[chosen, None], chunks.first[chosen, None]
        windows = windows_until(log, chunks.last[chosen], length)
        asked = windows.is_there & is_target[windows.rows]
        if fitted.name == "bert4rec":
            asked &= (chance.random(asked.shape) < budget.masked) | (windows.rows == last)
        else:
            asked &= windows.rows >= first
        yield _inputs(fitted, log, windows, asked)


def _scores(fitted: FittedNetwork, inputs: _Inputs) -> Tensor:
    """Of every behavior at every place that is asked about, float[n, K]."""
    vectors = fitted.network(inputs.events, inputs.context, inputs.is_there)
    return fitted.network.embedding.scores(vectors[inputs.asked])


def _loss(fitted: FittedNetwork, inputs: _Inputs) -> Tensor:
    return functional.cross_entropy(_scores(fitted, inputs), inputs.targets[inputs.asked])


def _asked(fitted: FittedNetwork, log: CodedLog, rows: Int64) -> NDArray[np.float32]:
    """Log-probabilities of rows, each at the end of a window of its own."""
    result = np.empty((len(rows), fitted.network.embedding.behaviors), np.float32)
    length = window_length(fitted.name, fitted.max_events)
    fitted.network.eval()
    with torch.inference_mode():
        for begin in range(0, len(rows), ROWS_AT_A_TIME):
            last = rows[begin : begin + ROWS_AT_A_TIME]
            windows = windows_until(log, last, length)
            asked = windows.is_there & (windows.rows == last[:, None])
            scores = _scores(fitted, _inputs(fitted, log, windows, asked))
            result[begin : begin + len(last)] = scores.log_softmax(1).cpu().numpy()
    return result


def _watched_loss(fitted: FittedNetwork, watched: Int64) -> float:
    said = _asked(fitted, fitted.log, watched)
    target = fitted.log.behavior(watched) - FIRST
    return -float(said[np.arange(len(target)), target].mean(dtype=np.float64))
