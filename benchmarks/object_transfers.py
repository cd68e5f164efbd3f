"""A large object to S3 and back over a bad link: the bytes that went over it, over the bytes that had to.

    python -m benchmarks.object_transfers [--mib 3000] [--ways up down] [--server rclone --rclone PATH] [--peer]
        [--json FILE]

The link resets its connections every 200 MB, answers every ninth request with 503 SlowDown and lets the credentials
expire every 700 MB; a file has new ones by then. The server is moto, which copies the whole object for each range
that is read, or `rclone serve s3` on a temporary folder, which cannot take a part again and so fails to be sent to
over such a link. With `--ways down` the object is put there without the link. --peer: boto3's transfer manager as
well, tried again as a whole up to five times.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from behaviorlm_ray import storage
from behaviorlm_ray.console.command_line import option_parser
from behaviorlm_ray.storage import S3Location
from cluster.chaos.link import Faults, Link, bad_link

BREAK_BYTES, EXPIRE_BYTES, THROTTLED_EVERY = 200_000_000, 700_000_000, 9
BUCKET, KEY = "transfers", "large"
PEER_TRIES = 5
START_SECONDS = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code: 1 if a ratio of ours is above 1.1."""
    parser = option_parser(__doc__, "python -m benchmarks.object_transfers")
    parser.add_argument("--mib", type=int, default=300)
    parser.add_argument("--ways", nargs="+", choices=["up", "down"], default=["up", "down"])
    parser.add_argument("--server", choices=["moto", "rclone"], default="moto")
    parser.add_argument("--rclone", default="rclone", help="the program")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.server == "rclone" and shutil.which(options.rclone) is None:
        parser.error(f"--rclone {options.rclone}: there is no such program")
    with tempfile.TemporaryDirectory(prefix="transfers-") as name:
        folder = Path(name)
        os.environ.update(AWS_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", TMPDIR=name)
        tempfile.tempdir = None
        for key in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ.pop(key, None)
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(folder / "credentials")
        renew(folder / "credentials", 0)
        source = folder / "source"
        digest = written(source, options.mib)
        serve = moto() if options.server == "moto" else rclone(options.rclone, folder / "served")
        with serve as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            if "up" not in options.ways:
                boto3_up(source)
            sides = {
                "ours": {"up": ours_up, "down": ours_down},
                "boto3": {"up": boto3_up, "down": boto3_down},
            }
            rows = [
                measured(name, endpoint, source, digest, {way: side[way] for way in options.ways})
                for name, side in sides.items()
                if name == "ours" or options.peer
            ]
    record = {"mib": options.mib, "server": options.server, "rows": rows}
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(value <= 1.1 for value in rows[0]["ratios"].values()) else 1


def measured(
    name: str,
    endpoint: str,
    source: Path,
    digest: str,
    ways: Mapping[str, Callable[[Path], Any]],
) -> dict[str, Any]:
    """Each way over a link of its own; what came back is compared."""
    faults = Faults(BREAK_BYTES, THROTTLED_EVERY, EXPIRE_BYTES)
    row: dict[str, Any] = {"name": name, "ratios": {}, "seconds": {}}
    size = source.stat().st_size
    for way, transfer in ways.items():
        with bad_link(endpoint, faults, lambda number: renew(_credentials(), number)) as link:
            os.environ["AWS_ENDPOINT_URL"] = link.endpoint
            begun = time.monotonic()
            try:
                if way == "up":
                    transfer(source)
                else:
                    copy = transfer(source.with_name("copy"))
                    row["same"] = sha256(copy) == digest
                    copy.unlink()
            except (Boto3Error, BotoCoreError, ClientError) as error:
                row[f"{way} failed"] = f"{type(error).__name__}: {str(error)[:200]}"
            row["seconds"][way] = round(time.monotonic() - begun, 1)
            row["ratios"][way] = round((link.sent if way == "up" else link.received) / size, 4)
            row[f"{way} faults"] = _happened(link)
        print(json.dumps(row), flush=True)
    return row


def ours_up(source: Path) -> None:
    """As a stage writes."""
    with storage.writing_file(S3Location(BUCKET, KEY)) as path:
        os.link(source, path)


def ours_down(target: Path) -> Path:
    """As a stage reads: it knows what was committed."""
    known = {"": storage.hash_file(target.with_name("source"))}
    return storage.local_copy(storage.with_digests(S3Location(BUCKET, KEY), known))


def boto3_up(source: Path) -> None:
    """As before there were parts of our own."""
    _as_a_whole(lambda client: client.upload_file(str(source), BUCKET, KEY, Config=TransferConfig()))


def boto3_down(target: Path) -> Path:
    """With ranges in parallel, as boto3's defaults are."""
    _as_a_whole(lambda client: client.download_file(BUCKET, KEY, str(target), Config=TransferConfig()))
    return target


def _as_a_whole(operation: Callable[[Any], None]) -> None:
    for left in reversed(range(PEER_TRIES)):
        try:
            return operation(boto3.session.Session().client("s3"))  # which looks for credentials
        except (Boto3Error, BotoCoreError, ClientError):
            if left == 0:
                raise


def _happened(link: Link) -> dict[str, int]:
    return {name: getattr(link, name) for name in ("requests", "breaks", "throttled", "expiries", "refused")}


def _credentials() -> Path:
    return Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"])


def renew(file: Path, number: int) -> None:
    """Put new credentials into place."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"[default]\naws_access_key_id = key-{number}\naws_secret_access_key = secret\n")
    fresh.replace(file)


def written(path: Path, mib: int) -> str:
    """A file of so many MiB, of a block that is not like the one before. Returns its SHA-256."""
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(mib):
            content = number.to_bytes(8, "big") + block[8:]
            stream.write(content)
            digest.update(content)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def moto() -> Iterator[str]:
    """The address of a moto server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def rclone(program: str, folder: Path) -> Iterator[str]:
    """The address of `rclone serve s3` on a folder; any key may use it."""
    folder.mkdir()
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{opened.getsockname()[1]}"
    command = [
        program,
        "serve",
        "s3",
        str(folder),
        "--addr",
        address,
        "--config",
        os.devnull,
        "--etag-hash",
        "",
    ]
    with subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr) as server:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                    break
            time.sleep(0.1)
        yield f"http://{address}"
        server.terminate()


if __name__ == "__main__":
    sys.exit(main())
