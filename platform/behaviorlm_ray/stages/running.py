"""Running stages once, alone or in a group: their committed outputs are found, or their bodies run and committed.

    <root>/stages/<name>-<fingerprint[:16]>/
        manifest.json       says which attempt is the output, and the hash of each of its files
        lease.json          who is running the stage now
        attempts/<uuid>/    what each attempt wrote; failed ones keep theirs until one is committed, and an error.json
        checkpoints/<uuid>/ of each attempt; those of a failed one are for the next, removed after success

Readers trust a manifest only if all of its files verify. Of two writers one commits, the other uses that. The root is
a local folder or a place on S3 (`storage`); a stage's identity does not depend on which.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from behaviorlm_ray.stages.attempts import Attempt, StageFolder, StageResult
from behaviorlm_ray.stages.committing import commit
from behaviorlm_ray.stages.finding import Identity, StageOutput, find, identify
from behaviorlm_ray.stages.host import Host, this_host
from behaviorlm_ray.stages.lease import Lease, LeaseSeeker
from behaviorlm_ray.stages.manifests import Manifest
from behaviorlm_ray.storage import Location

LEASE_SECONDS = 60.0

Report = Callable[[str], None]


@dataclass(frozen=True)
class StageCall:
    """A stage that is asked for.

    version: of the body's code; config: the part of the configuration that decides the output, JSON values; inputs:
    manifests or content hashes of what the body reads. With the name these are the stage's identity.
    """

    name: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, Manifest | str]
    body: Callable[[StageFolder], StageResult]


def run_group(
    root: str | Location,
    calls: Sequence[StageCall],
    *,
    lease_seconds: float = LEASE_SECONDS,
    report: Report = print,
    host: Host | None = None,
) -> list[StageOutput]:
    """The outputs of stages that do not depend on each other, each with a lease, an attempt and a commit of its own.

    Those that are not committed yet run one after another, in the order of `calls`. While another process runs one of
    them this one waits, and says so through `report`. If a body raises, its attempt is kept with an
    error.json, its checkpoints too; the others are committed as they end, and then the first error goes on to the
    caller. An interruption ends the group at once.
    Raises ConfigError for an identity that is not plain JSON, StorageError for a full or unusable disk, or when another
    process has taken a stage over and is still at it.
    """
    here = host or this_host()
    identities = [identify(root, call.name, call.version, call.config, call.inputs) for call in calls]
    asked = {
        identity.folder.name: (identity, call.body) for identity, call in zip(identities, calls, strict=True)
    }
    outputs: dict[str, StageOutput] = {}
    attempts: dict[str, Attempt] = {}
    with ExitStack() as leases:
        # Who waits for a lease holds such of names before it only. So among processes that wait, whatever their
        # groups, the names they wait for grow from each to the next, and who holds the last one does not wait.
        for folder, (identity, body) in sorted(asked.items()):
            found = _finished_or_leased(identity, body, lease_seconds, report, here)
            if isinstance(found, StageOutput):
                outputs[folder] = found
            else:
                leases.enter_context(found.lease)
                attempts[folder] = found
        outputs.update(_run([attempts[folder] for folder in asked if folder in attempts], report))
    return [outputs[identity.folder.name] for identity in identities]


def _finished_or_leased(
    identity: Identity,
    body: Callable[[StageFolder], StageResult],
    lease_seconds: float,
    report: Report,
    host: Host,
) -> StageOutput | Attempt:
    """The committed output, or an attempt that has the lease."""
    found = find(identity)
    if found.output is not None:
        return found.output
    with ExitStack() as until_it_is_handed_on:
        lease = until_it_is_handed_on.enter_context(_wait_for_lease(identity, lease_seconds, report, host))
        found = find(identity)  # Somebody may have committed while we waited.
        if found.output is not None:
            report(f"{identity.name}: finished by another process, whose output is used")
            return found.output
        for problem in found.problems:
            report(f"{identity.name}: {problem}; this stage runs again")
        until_it_is_handed_on.pop_all()
    return Attempt(identity, found, body, lease, host, host.new_name())


def _wait_for_lease(identity: Identity, lease_seconds: float, report: Report, host: Host) -> Lease:
    seeker = LeaseSeeker(identity.folder / "lease.json", lease_seconds, host)
    announced = ""
    while True:
        holder = seeker.try_acquire()
        if isinstance(holder, Lease):
            return holder
        if holder.owner != announced:
            report(f"{identity.name}: being run by {holder.describe()}; waiting for it")
            announced = holder.owner
        host.clock.sleep(min(1.0, lease_seconds / 10))


def _run(attempts: Sequence[Attempt], report: Report) -> dict[str, StageOutput]:
    """What the attempts come to, by stage folder; each lease is given back as its attempt ends. One that fails does not
    keep the others from running; an interruption does.
    """
    outputs: dict[str, StageOutput] = {}
    failures: list[BaseException] = []
    pending = list(attempts)
    try:
        while pending:
            attempt = pending[0]
            result: StageResult | Exception
            try:
                result = attempt()
            except Exception as error:
                result = error
            with attempt.lease:
                try:
                    if isinstance(result, Exception):
                        raise result
                    outputs[attempt.identity.folder.name] = commit(attempt, result, report)
                except Exception as error:
                    failures.append(attempt.failed(error))
                    if len(attempts) > 1:
                        report(f"{attempt.identity.name}: failed: {error}")
            del pending[0]
    except BaseException as error:  # an interruption
        told = [attempt.failed(error) for attempt in pending]
        raise next((one for one in told if one is not error), error)  # noqa: B904  # which has its cause
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"another stage of the same group failed, too: {other}")
        raise failures[0]
    return outputs
