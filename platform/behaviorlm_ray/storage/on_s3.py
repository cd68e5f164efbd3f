"""The operations of `s3`, loaded at the first of them: boto3 takes longer to load than a config to be refused."""

from typing import Any


def __getattr__(name: str) -> Any:
    from behaviorlm_ray.storage import s3

    return getattr(s3, name)
