"""Credentials that stand in an address by mistake are never shown: not in an error, not in a log."""

import re

HIDDEN = "***"

_PLACES = (
    re.compile(r"""(?<=://)[^\s'"/:]*(?::[^\s'"]*)?(?=@)"""),
    re.compile(r"""(?<![\w/.])[\w.+-]+:[^\s'"/:]+(?=@[\w\[])"""),
    re.compile(
        r"""(?<=[?&;])([\w.-]*(?:password|passwd|pwd|token|secret|(?:api|access)[_-]?key)=)[^&;\s'"]+"""
        r"""|(?<=%3B)((?:password|pwd)%3D)(?:(?!%3B)[^&;\s'"])+""",
        re.IGNORECASE,
    ),
)
"""User and password before the host, with a scheme and without; and parameters behind the path,
also those that are encoded in one (`odbc_connect`)."""


def masked(text: str) -> str:
    """The text without the credentials of the addresses in it."""
    host, bare, parameters = _PLACES
    return parameters.sub(rf"\1\2{HIDDEN}", bare.sub(HIDDEN, host.sub(HIDDEN, text)))
