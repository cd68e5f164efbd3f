"""Production's safeguards, each taken out in turn: a world that stays whole without one would not look for it.

A mutant is a function of production whose text differs in one place. Its code is put into the function that is there,
so all who know that function by any name run the mutant.
"""

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from tests.platform.stages.simulator.search import Case


@dataclass(frozen=True)
class Mutant:
    """What is taken out, and what shows it: the seed of a world, or a case that is searched.

    where: `module:function`, in behaviorlm_ray; also: other places, where two guard the same.
    """

    safeguard: str
    where: str
    old: str
    new: str
    shown_by: int | Case = 0
    also: tuple[tuple[str, str, str], ...] = ()


@contextmanager
def living(mutant: Mutant) -> Iterator[None]:
    """Production without the safeguard."""
    before: list[tuple[FunctionType, CodeType]] = []
    try:
        for where, old, new in ((mutant.where, mutant.old, mutant.new), *mutant.also):
            function = _function(where)
            before.append((function, function.__code__))
            function.__code__ = _changed(function, old, new)
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _changed(function: FunctionType, old: str, new: str) -> CodeType:
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(old) == 1, f"{function.__qualname__} has {old!r} {text.count(old)} times"
    space: dict[str, Any] = {}
    exec(text.replace(old, new), dict(function.__globals__), space)
    found: CodeType = space[function.__name__].__code__
    return found


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"behaviorlm_ray.{module}")
    for name in path.split("."):
        found = getattr(found, name)
    assert isinstance(found, FunctionType)
    return found


MUTANTS = (
    Mutant(
        "a manifest is only created where there is none",
        "stages.committing:_put_in_place",
        "written = storage.write_exclusive(path, content)",
        "written = storage.write_replacing(path, content) is None",
        shown_by=45,
    ),
    Mutant(
        "a damaged manifest is only replaced while it is the one that was found",
        "stages.committing:_put_in_place",
        "written = storage.replace_if(path, content, damaged)",
        "written = storage.write_replacing(path, content) is None",
        shown_by=38,
    ),
    Mutant(
        "who lost its lease does not commit",
        "stages.committing:_put_in_place",
        "attempt.lease.check()",
        "pass",
        shown_by=506,
    ),
    Mutant(
        "who lost the commit uses what was committed",
        "stages.committing:_put_in_place",
        "if written:",
        "if True:",
        shown_by=106,
    ),
    Mutant(
        "who lost the commit is told",
        "stages.committing:commit",
        "report(",
        "str(",
        shown_by=106,
    ),
    Mutant(
        "beside an unreadable manifest no attempt is removed, for one of them may be read",
        "stages.committing:commit",
        "elif attempt.found.content is None or attempt.found.attempt:",
        "else:",
        shown_by=Case(("rot",), ("read", "run"), past="an output", starts=(0.0, 1.0)),
    ),
    Mutant(
        "only attempts are removed that were there when this one began",
        "stages.committing:commit",
        "remove_written(attempt.earlier)",
        "remove_written(attempt.output.parent / name for name in storage.list_folders(attempt.output.parent))",
        shown_by=2,
    ),
    Mutant(
        "only checkpoints are removed that were there when this attempt began",
        "stages.committing:commit",
        "(attempt.checkpoints, *attempt.earlier_checkpoints)",
        "(attempt.checkpoints.parent,)",
        shown_by=Case(("pause", "rot"), starts=(0.0, 22.0), has_checkpoints=True),
    ),
    Mutant(
        "each attempt has checkpoints of its own",
        "stages.attempts:Attempt.__call__",
        "self.output, self.checkpoints, self.lease, self.earlier, self.earlier_checkpoints",
        "self.output, self.checkpoints.parent, self.lease, self.earlier, [self.checkpoints.parent]",
        shown_by=141,
    ),
    Mutant(
        "an attempt that begins without its lease removes nothing of others",
        "stages.attempts:Attempt.__call__",
        "self.lease.check()",
        "pass",
        shown_by=128,
    ),
    Mutant(
        "a lease is only created where there is none",
        "stages.lease:LeaseSeeker.try_acquire",
        "if storage.write_exclusive(self.path, content):",
        "if storage.write_replacing(self.path, content) is None:",
        shown_by=2,
    ),
    Mutant(
        "a lease is only taken over while it is the one that was seen",
        "stages.lease:LeaseSeeker.try_acquire",
        "if storage.replace_if(self.path, content, current):",
        "if storage.write_replacing(self.path, content) is None:",
        shown_by=5,
    ),
    Mutant(
        "an owner whose lease has not expired is waited for",
        "stages.lease:LeaseSeeker._is_gone",
        "return clock.now() > holder.expires and watched",
        "return watched",
        shown_by=2,
    ),
    Mutant(
        "an owner is watched before it counts as gone: its clock may be another",
        "stages.lease:LeaseSeeker._is_gone",
        "clock.now() > holder.expires and watched > 2 * self.seconds / HEARTBEATS_PER_LEASE",
        "clock.now() > holder.expires",
        shown_by=45,
    ),
    Mutant(
        "a process of this machine that is alive is waited for",
        "stages.lease:LeaseSeeker._is_gone",
        "host.start_of(holder.process) != holder.process_started",
        "True",
        shown_by=0,
    ),
    Mutant(
        "a heartbeat replaces only the one before",
        "stages.lease:Lease._renew",
        "if storage.replace_if(self.path, content, self._content):",
        "if storage.write_replacing(self.path, content) is None:",
        shown_by=3,
    ),
    Mutant(
        "a lease that has vanished is lost",
        "stages.lease:Lease.check",
        "if self._is_of_another(storage.read_bytes(self._patient_path)):",
        "if self._is_of_another(storage.read_bytes(self._patient_path) or self._content):",
        shown_by=Case(("pause",), ("run", "fail"), has_scratch=True),
        also=(
            (
                "stages.lease:Lease._renew",
                "found = storage.read_bytes(self.path)",
                "found = storage.read_bytes(self.path) or self._content",
            ),
        ),
    ),
    Mutant(
        "only the own lease is given back",
        "stages.lease:Lease.release",
        "storage.remove_if(self.path, self._content)",
        "storage.remove_if(self.path, storage.read_bytes(self.path) or b'')",
        shown_by=6,
    ),
    Mutant(
        "the lease is renewed while the body works",
        "stages.lease:Lease._renew",
        "now = self._now()",
        "return True",
        shown_by=309,
    ),
    Mutant(
        "a manifest is trusted only if its files verify",
        "stages.finding:find",
        "problems = storage.damaged_files(folder, manifest.digests)",
        "problems = []",
        shown_by=2,
    ),
    Mutant(
        "a manifest is trusted only if it is as it was written",
        "stages.manifests:decode_manifest",
        "if encode_manifest(manifest) != content:",
        "if False:",
        shown_by=0,
    ),
    Mutant(
        "who got the lease looks again for what was committed meanwhile",
        "stages.running:_finished_or_leased",
        "found = find(identity)  # Somebody may have committed while we waited.",
        "",
        shown_by=7,
    ),
    Mutant(
        "leases of a group are taken in one order",
        "stages.running:run_group",
        "in sorted(asked.items()):",
        "in asked.items():",
        shown_by=245,
    ),
    Mutant(
        "a conditional write that was repeated may have failed on itself",
        "storage.s3_objects:_put_if",
        "return was_sent and (_read(place) or (None,))[0] == content",
        "return False",
        shown_by=Case(("loss",)),
    ),
    Mutant(
        "a conditional write that was repeated is not taken for done",
        "storage.s3_objects:_put_if",
        "return was_sent and (_read(place) or (None,))[0] == content",
        "return was_sent",
        shown_by=Case(("loss",)),
    ),
    Mutant(
        "a lost answer is looked into after the error is handled",
        "storage.s3_objects:_put_if",
        "            was_sent = is_repeated or was_repeated(error)\n",
        "            return (is_repeated or was_repeated(error)) and (_read(place) or (None,))[0] == content\n",
        shown_by=38,
    ),
    Mutant(
        "files that a listing lacks are asked for",
        "storage.s3:sizes",
        "None if path in listed else digest_of(folder / path)",
        "None",
        shown_by=143,
    ),
    Mutant(
        "stages are removed under their lease",
        "upkeep.removal:_take_lease",
        "seeker = LeaseSeeker(stage / LEASE_FILE, seconds, host)",
        "seeker = LeaseSeeker(stage / LEASE_FILE, seconds, host)\n    seeker._is_gone = lambda *rest: True",
        shown_by=37,
    ),
    Mutant(
        "what somebody asks for is not removed",
        "upkeep.removal:_remove_stage",
        "if stage.name in asked_for(base):\n        return ASKED_FOR\n    content",
        "content",
        shown_by=Case((), ("run", "stages"), past="half an attempt"),
    ),
    Mutant(
        "who asks is looked for once more when nobody can trust the manifest any more",
        "upkeep.removal:_remove_stage",
        "reading its files.\n        if stage.name in asked_for(base):",
        "\n        if False:",
        shown_by=Case((), ("read", "stages"), past="an output"),
    ),
    Mutant(
        "a manifest goes before its files",
        "upkeep.removal:_remove_stage",
        "if not storage.replace_if(manifest, condemned, content):",
        "if False:",
        shown_by=395,
    ),
    Mutant(
        "a removal that lost its lease removes nothing more",
        "upkeep.removal:_remove_stage",
        "lease.check()",
        "pass",
        shown_by=Case(("pause",), ("read", "stages"), past="an output"),
    ),
    Mutant(
        "attempts are removed but for the one that is committed now",
        "upkeep.removal:_remove_attempts",
        "if path != committed",
        "",
        shown_by=124,
    ),
    Mutant(
        "beside a damaged output no attempt is removed: it may be the repair",
        "upkeep.removal:_remove_attempts",
        "if storage.damaged_files(item.place / committed, manifest.digests):",
        "if False:",
        shown_by=Case(("pause",), ("run", "attempts"), past="a damaged output", starts=(0.0, 13.0)),
    ),
    Mutant(
        "a tuning removes only checkpoints of attempts that were there when it began",
        "tuning.step_folders:prune",
        "*earlier_steps(earlier)]",
        "*earlier_steps([root.parent / name for name in storage.list_folders(root.parent)])]",
        shown_by=141,
    ),
    Mutant(
        "what lies in scratch is never part of an output",
        "stages.attempts:Attempt.manifest",
        'if not path.startswith(f"{SCRATCH}/")',
        "",
        shown_by=84942,
    ),
    Mutant(
        "a lease that cannot be read is not taken for one's own",
        "stages.lease:Lease.check",
        "    if self._is_of_another(storage.read_bytes(self._patient_path)):\n        self.lost.set()",
        "    with suppress(StorageError):\n        if self._is_of_another(storage.read_bytes(self.path)):\n"
        "            self.lost.set()",
        shown_by=20589,
    ),
    Mutant(
        "each try for a lease offers a new record",
        "stages.lease:LeaseSeeker.try_acquire",
        "record = self._new_record()",
        "record = locals().get('record') or self._new_record()",
        shown_by=55284,
    ),
)
