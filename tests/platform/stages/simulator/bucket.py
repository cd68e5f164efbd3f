"""A bucket of S3 in a simulated world, and the client through which production's own requests reach it.

What is simulated are requests: one takes effect at one moment, between being sent and being answered. So whatever
production builds of several requests (a listing and many removals, a look and a conditional write) can be torn apart.
"""

import base64
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from botocore.exceptions import ClientError, EndpointConnectionError

from tests.platform.stages.simulator.world import Process, World

QUICK_ATTEMPTS = 3
"""How often boto3 itself sends a request (`s3_access.QUICK_ATTEMPTS`)."""

MISSING = object()


class Delivery(NamedTuple):
    """What the network does with one request. Seconds; None: lost.

    there: until it takes effect; back: from then until its answer is read; gives_up: after how long without an answer
    the client sends it again; refused: the storage says no, for good.
    """

    there: float | None = 0.0
    back: float | None = 0.0
    gives_up: float = 4.0
    refused: bool = False


class Network(Protocol):
    """What happens to requests, and how old a listing may be."""

    def deliver(self, process: Process, verb: str, key: str) -> Delivery:
        """Of a request that is sent now."""

    def staleness(self, process: Process) -> float:
        """How many seconds of what others did a listing does not show."""


class Change(NamedTuple):
    """One change of an object: None where there is, or was, none."""

    time: float
    process: Process
    key: str
    before: bytes | None
    after: bytes | None

    def __str__(self) -> str:
        what = "removed" if self.after is None else "made" if self.before is None else "replaced"
        return f"{self.time:8.2f} s  {self.process.name:5}  {what:8}  {self.key}"


class Bucket:
    """State: the objects (`state` is a hash of them), all changes so far, and who is told of each as it happens."""

    def __init__(self, world: World, network: Network) -> None:
        self.world, self.network = world, network
        self.objects: dict[str, bytes] = {}
        self.changes: list[Change] = []
        self.watchers: list[Callable[[Change], None]] = []
        self.state = 0

    def put(self, process: Process, key: str, content: bytes | None) -> None:
        """Change an object, or remove it, at once."""
        before = self.objects.get(key)
        if before is None and content is None:
            return
        change = Change(self.world.time, process, key, before, content)
        if content is None:
            del self.objects[key]
        else:
            self.objects[key] = content
        self.changes.append(change)
        self.state ^= hash((key, before)) ^ hash((key, content))
        for watcher in self.watchers:
            watcher(change)

    def listed(self, process: Process, prefix: str, staleness: float) -> dict[str, int]:
        """Keys and sizes below a prefix, without what others did a short while ago."""
        found = {key: len(content) for key, content in self.objects.items() if key.startswith(prefix)}
        if staleness:
            for change in reversed(self.changes):
                if change.time < self.world.time - staleness:
                    break
                if change.process is not process and change.key.startswith(prefix):
                    if change.before is None:
                        found.pop(change.key, None)
                    else:
                        found[change.key] = len(change.before)
        return dict(sorted(found.items()))


class Client:
    """What boto3's client is to production's code: sends for whichever process is awake."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.meta = SimpleNamespace(endpoint_url="http://simulated", region_name="simulated")

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        def serve(process: Process) -> Any:
            return self._bucket.objects.get(Key, MISSING)

        content, _ = self._send("get", Key, serve)
        if content is MISSING:
            raise _refusal("NoSuchKey", 404, 0)
        return {"Body": _Body(content), "ETag": _etag(content)}

    def head_object(self, Bucket: str, Key: str, ChecksumMode: str) -> dict[str, Any]:
        content, _ = self._send("head", Key, lambda process: self._bucket.objects.get(Key, MISSING))
        if content is MISSING:
            raise _refusal("404", 404, 0)
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return {"ContentLength": len(content), "ChecksumSHA256": checksum}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
        **checksum: str,
    ) -> None:
        def serve(process: Process) -> str:
            there = self._bucket.objects.get(Key)
            if IfMatch is not None and there is None:
                return "NoSuchKey"
            if (IfNoneMatch and there is not None) or (IfMatch and _etag(there or b"") != IfMatch):
                return "PreconditionFailed"
            self._bucket.put(process, Key, Body)
            return ""

        verb = "put" if IfNoneMatch is IfMatch is None else "put if"
        self._told(*self._send(verb, Key, serve))

    def delete_object(self, Bucket: str, Key: str, IfMatch: str | None = None) -> None:
        def serve(process: Process) -> str:
            there = self._bucket.objects.get(Key)
            if IfMatch is not None and there is None:
                return "NoSuchKey"
            if IfMatch is not None and _etag(there or b"") != IfMatch:
                return "PreconditionFailed"
            self._bucket.put(process, Key, None)
            return ""

        self._told(*self._send("delete if", Key, serve))

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:
        keys = [item["Key"] for item in Delete["Objects"]]

        def serve(process: Process) -> str:
            for key in keys:
                self._bucket.put(process, key, None)
            return ""

        self._send("delete", keys[0], serve)
        return {}

    def list_objects_v2(self, Bucket: str, Prefix: str, Delimiter: str = "") -> dict[str, Any]:
        def serve(process: Process) -> dict[str, int]:
            return self._bucket.listed(process, Prefix, self._bucket.network.staleness(process))

        found, _ = self._send("list", Prefix, serve)
        if not Delimiter:
            return {"Contents": [{"Key": key, "Size": size} for key, size in found.items()]}
        names = {
            key.removeprefix(Prefix).partition("/")[0] for key in found if "/" in key.removeprefix(Prefix)
        }
        return {"CommonPrefixes": [{"Prefix": f"{Prefix}{name}/"} for name in sorted(names)]}

    def _told(self, code: str, repeats: int) -> None:
        if code:
            raise _refusal(code, 412 if code == "PreconditionFailed" else 404, repeats)

    def _send(self, verb: str, key: str, serve: Callable[[Process], Any]) -> tuple[Any, int]:
        """The answer, and how often the request had been sent before."""
        world, process = self._bucket.world, self._bucket.world.process
        for repeats in range(QUICK_ATTEMPTS):
            world.require_alive()
            delivery = self._bucket.network.deliver(process, verb, key)
            if delivery.refused:
                world.wait(world.time)
                world.told((verb, key, "refused"))
                raise _refusal("InvalidRequest", 400, repeats)
            if delivery.there == delivery.back == 0.0:
                world.wait(world.time)
                answer = serve(process)
                world.told((verb, key, _plain(answer)))
                return answer, repeats
            answers: list[Any] = []

            def arrive(answers: list[Any] = answers) -> None:
                answers.append(serve(process))

            there, back = delivery.there, delivery.back
            if there is not None and back is not None:
                answered = world.time + there + back
                if world.skips_to(world.time + there):
                    arrive()
                else:
                    world.at(there, arrive)
                world.wait(answered)
                world.told((verb, key, _plain(answers[0])))
                return answers[0], repeats
            if there is not None:
                world.at(there, arrive)
            world.wait(world.time + delivery.gives_up)
            world.told((verb, key, "silence"))
        raise EndpointConnectionError(endpoint_url="simulated")


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content

    def iter_chunks(self, size: int) -> list[bytes]:
        return [self._content]


def _etag(content: bytes) -> str:
    return f'"{hash(content)}"'


def _plain(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, dict) else answer if answer is not MISSING else None


def _refusal(code: str, status: int, repeats: int) -> ClientError:
    told = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": repeats}}
    return ClientError(told, "simulated")
