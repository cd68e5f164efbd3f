"""Talking to S3: one client for each process, patience with what passes, and words for what does not.

Endpoint, region and credentials come from where AWS tools look for them: AWS_ENDPOINT_URL(_S3), AWS_REGION or
AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE, the machine's role and so on.
"""

import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from behaviorlm.errors import StorageError
from behaviorlm.files.clock import SYSTEM_CLOCK, Clock
from behaviorlm.files.patient_reads import Deadline, repeat_patiently
from behaviorlm_ray.storage.full_disk import causes
from behaviorlm_ray.storage.locations import S3Location

T = TypeVar("T")

CONNECTIONS = 16
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""How long a connection may take and may be silent before the request is tried again."""
QUICK_ATTEMPTS = 3
"""Attempts that boto3 makes by itself within seconds; after them come ours, with longer pauses."""
CLOCK: Clock = SYSTEM_CLOCK
"""What the pauses between our attempts are kept by."""

TRANSIENT_CODES = {
    "InternalError",
    "SlowDown",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeoutException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "BandwidthLimitExceeded",
    "OperationAborted",
    "ConditionalRequestConflict",
}
EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
CREDENTIAL_CODES = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "UnrecognizedClientException",
}
REGION_CODES = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "TemporaryRedirect",
    "301",
}
CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired"}
DENIED_CODES = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "Forbidden"}
MISSING_CODES = {"NoSuchKey", "404", "NotFound"}

TRANSIENT_ERRORS = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.FlexibleChecksumError,
)
MISSING_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.UnauthorizedSSOTokenError,
    boto.SSOTokenLoadError,
)

_lock, _renewing = threading.Lock(), threading.Lock()


def client() -> Any:
    """The S3 client of this process for the present environment. Safe to share among threads."""
    settings = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_")))
    with _lock:  # the making of clients is not safe among threads
        try:
            return _client(os.getpid(), settings)
        except ValueError as error:
            raise StorageError(
                f"S3 cannot be used: {error}. AWS_ENDPOINT_URL is an address such as https://storage.example:9000, "
                "AWS_REGION a name such as eu-central-1"
            ) from error


@lru_cache(maxsize=4)
def _client(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": QUICK_ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
    )
    return boto3.session.Session().client("s3", config=config)


def patiently(
    place: S3Location, action: str, operation: Callable[[Any, bool], T], deadline: Deadline | None = None
) -> T:
    """Call `operation(client, is_repeated)` until it succeeds or the place's patience ends.

    deadline: of a larger undertaking that this is a part of; None: the operation has the patience to itself.
    Errors that pass (5xx, slow-down, time-outs, resets, no connection) are met with pauses that grow and vary.
    Raises StorageError in words; ClientErrors of missing keys and failed conditions go on as they are.
    """

    def attempt(repeats: int) -> T:
        used, is_new, was_sent = client(), False, repeats > 0
        while True:
            try:
                return operation(used, was_sent)
            except boto.ClientError as error:
                if is_new or error_code(error) not in EXPIRED_CODES:
                    raise
                was_sent = was_sent or was_repeated(error)
            used, is_new = _renewed(used)

    def judge(error: Exception, repeats: int, is_over: bool) -> str:
        if not isinstance(error, boto.BotoCoreError | boto.ClientError):
            raise error
        if error_code(error) in {"PreconditionFailed", *MISSING_CODES}:
            raise error
        damaged_twice = isinstance(error, boto.FlexibleChecksumError) and repeats > 0
        if not is_transient(error) or is_over or damaged_twice:
            raise StorageError(describe(error, place, action)) from error
        return f"storage: cannot {action} {place} now ({error_code(error) or _first_line(error)})"

    return repeat_patiently(attempt, judge, place.patience_seconds, CLOCK, deadline)


def _renewed(expired: Any) -> tuple[Any, bool]:
    """A client that has looked for credentials since this one did, and whether it did so now: whoever renews them in a
    file is found by a new session only. Of threads whose requests were refused together, the first makes it; what it
    found may have expired, too, until another is refused.
    """
    with _renewing:
        is_newest = client() is expired
        if is_newest:
            _client.cache_clear()
        return client(), is_newest


def error_code(error: BaseException | None) -> str:
    """What S3 calls an error; empty for errors that are not its answers."""
    for cause in causes(error):
        if isinstance(cause, boto.ClientError):
            return str(cause.response.get("Error", {}).get("Code", ""))
    return ""


def was_repeated(error: boto.ClientError) -> bool:
    """Whether boto3 had sent the request before: an attempt whose answer was lost may have succeeded."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    for cause in causes(error):
        if isinstance(cause, boto.ClientError):
            status = int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return (status >= 500 and status != 501) or status == 429 or error_code(cause) in TRANSIENT_CODES
        if isinstance(cause, boto.SSLError | boto.ProxyConnectionError):
            return False
        if isinstance(cause, TRANSIENT_ERRORS):
            return True
    return False


def describe(error: BaseException, place: S3Location, action: str) -> str:
    """What is wrong, where, and what to do about it, without any secret."""
    endpoint = client_endpoint()
    what = f"cannot {action} {place}"
    code = error_code(error)
    if any(isinstance(cause, MISSING_CREDENTIALS) for cause in causes(error)):
        return (
            f"{what}: no AWS credentials were found ({_first_line(error)}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machines a role that may use the bucket"
        )
    if code in EXPIRED_CODES:
        return (
            f"{what}: the AWS credentials have expired. Renew them and run the same command again: finished stages "
            "are reused, an interrupted tuning continues from its last checkpoint"
        )
    if code in CREDENTIAL_CODES:
        return (
            f"{what}: {endpoint} does not know these AWS credentials ({code}). Check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE, on all nodes"
        )
    if code in CLOCK_CODES:
        return (
            f"{what}: the clock of this machine ({time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())}) differs too "
            "much from that of the storage. Set it right (turn on NTP) and run the same command again"
        )
    if code == "NoSuchBucket":
        return (
            f"{what}: there is no bucket {place.bucket!r} at {endpoint}. Create it or correct the name; another "
            "endpoint is given by AWS_ENDPOINT_URL"
        )
    if code in REGION_CODES:
        return (
            f"{what}: the bucket {place.bucket!r} is in another region{_region_of(error)} than the one in use "
            f"({_used_region()}). Set AWS_REGION to the bucket's region, on all nodes"
        )
    if code in DENIED_CODES:
        return (
            f"{what}: permission denied ({code}). The credentials need s3:ListBucket on the bucket {place.bucket!r} "
            "and s3:GetObject, s3:PutObject, s3:DeleteObject on what is below the prefix"
        )
    if isinstance(error, boto.FlexibleChecksumError):
        return f"{what}: its content does not fit the checksum it was stored with ({error}); it is damaged"
    if isinstance(error, boto.NoRegionError):
        return f"{what}: no region is set. Set AWS_REGION, on all nodes"
    if is_transient(error):
        return (
            f"{what}: {endpoint} did not serve the request for {place.patience_seconds:.0f} s "
            f"({code or _first_line(error)}). This is resumable: when the storage is reachable again, run the same "
            "command; finished stages are reused, an interrupted tuning continues from its last checkpoint. "
            "storage.patience_seconds says how long to wait; AWS_ENDPOINT_URL and AWS_REGION where to look"
        )
    return f"{what}: {code or type(error).__name__}: {_first_line(error)}"


def client_endpoint() -> str:
    """The address that is asked, for messages."""
    try:
        return str(client().meta.endpoint_url)
    except (boto.BotoCoreError, StorageError):
        return os.environ.get("AWS_ENDPOINT_URL", "AWS")


def _region_of(error: BaseException) -> str:
    for cause in causes(error):
        if isinstance(cause, boto.ClientError):
            headers = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            region = headers.get("x-amz-bucket-region") or cause.response.get("Error", {}).get("Region")
            return f", {region}," if region else ""
    return ""


def _used_region() -> str:
    try:
        return str(client().meta.region_name)
    except boto.BotoCoreError:
        return "none"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
