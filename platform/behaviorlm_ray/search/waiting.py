"""Telling what a search waits for when the cluster lacks room: a line for each wait, instead of silence."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import ray
from ray.util import state

from behaviorlm.errors import BehaviorLMError

LIMIT = 1000
"""Placement groups and actors that are looked at (the state API's own bound is 10,000)."""

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Wait:
    """Something that has asked for resources and has none. `bundles`: each must fit on one node."""

    identity: str
    what: str
    bundles: tuple[tuple[tuple[str, float], ...], ...]


class WaitReporter:
    """Looks every so often, in a thread, at what waits, and tells each wait that lasts longer than `after_seconds`.

    Use as a context manager around what may wait. State: since when each wait lasts, and when it was last told.
    """

    def __init__(self, after_seconds: float, report: Callable[[str], None] = print) -> None:
        self._after, self._report = after_seconds, report
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_until_stopped, name="waits", daemon=True)

    def __enter__(self) -> "WaitReporter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def look(self, waits: Sequence[Wait], nodes: Sequence[Resources], free: Resources) -> None:
        """Tell what has waited too long; each wait again after ten times as long."""
        now = time.monotonic()
        present = {wait.identity for wait in waits}
        self._since = {
            identity: self._since.get(identity, now) for identity in (wait.identity for wait in waits)
        }
        self._told = {identity: told for identity, told in self._told.items() if identity in present}
        for wait in waits:
            age = now - self._since[wait.identity]
            told = self._told.get(wait.identity)
            if age >= self._after and (told is None or now - told >= 10 * self._after):
                self._told[wait.identity] = now
                self._report(describe_wait(wait, age, nodes, free))

    def _look_until_stopped(self) -> None:
        while not self._stop.wait(min(10.0, self._after / 2)):
            try:
                self.look(pending_waits(), node_resources(), ray.available_resources())
            except (
                Exception
            ) as error:  # the state API answers late or not at all on a busy cluster: look again later
                if self._stop.is_set() or isinstance(error, BehaviorLMError):
                    return


def pending_waits() -> list[Wait]:
    """Placement groups and actors that wait for resources. Needs an initialized Ray with the dashboard on."""
    address = ray.get_runtime_context().gcs_address  # several Rays may run on a machine: this one
    options: dict[str, Any] = {
        "address": address,
        "detail": True,
        "limit": LIMIT,
        "raise_on_missing_output": False,
    }
    groups = state.list_placement_groups(filters=[("state", "=", "PENDING")], **options)
    actors = state.list_actors(filters=[("state", "=", "PENDING_CREATION")], **options)
    waits = [
        Wait(
            group.placement_group_id,
            group.name or "a group of workers",
            tuple(_plain(bundle.get("unit_resources", {})) for bundle in group.bundles or []),
        )
        for group in groups
    ]
    return waits + [
        Wait(actor.actor_id, actor.class_name, (_plain(actor.required_resources or {}),))
        for actor in actors
        if not actor.placement_group_id
    ]


def node_resources() -> list[Resources]:
    """What each living node has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def describe_wait(wait: Wait, seconds: float, nodes: Sequence[Resources], free: Resources) -> str:
    """What waits, for how long, for what, and whether it can ever come on the cluster as it is."""
    asked = (
        ", ".join(_amounts(dict(bundle)) for bundle in dict.fromkeys(wait.bundles)) or "nothing in particular"
    )
    number = f"{len(wait.bundles)} x " if len(wait.bundles) > 1 else ""
    has = _amounts({name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")})
    left = _amounts({name: free.get(name, 0) for name in ("CPU", "GPU")})
    text = f"waiting for {seconds:.0f} s: {wait.what} asks for {number}{asked}; the cluster has {has}, free {left}"
    impossible = [
        bundle
        for bundle in wait.bundles
        if not any(all(node.get(name, 0) >= amount for name, amount in bundle) for node in nodes)
    ]
    totals = {
        name: sum(dict(bundle).get(name, 0) for bundle in wait.bundles)
        for name in {name for bundle in wait.bundles for name, _ in bundle}
    }
    if impossible:
        text += f"; no node has {_amounts(dict(impossible[0]))}: unless one is being added, ask for less (execution)"
    elif any(amount > sum(node.get(name, 0) for node in nodes) for name, amount in totals.items()):
        text += "; that is more than all nodes have: unless nodes are being added, ask for less (execution)"
    return text


def _plain(resources: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Without what Ray adds of its own."""
    return tuple(
        sorted(
            (name, float(amount))
            for name, amount in resources.items()
            if not name.startswith(("node:", "bundle"))
        )
    )


def _amounts(resources: Resources) -> str:
    named = [f"{name} {amount:g}" for name, amount in resources.items() if amount or name == "CPU"]
    return "{" + ", ".join(named) + "}"
