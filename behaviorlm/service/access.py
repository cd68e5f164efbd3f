"""Who may ask, and from where: the token, and what an address without one may be. Light: no web framework."""

import hmac
import ipaddress
import os
from pathlib import Path

from behaviorlm.errors import ConfigError
from behaviorlm.service.settings import ServeSettings, TokenSettings

SHORTEST_TOKEN = 16
LOCAL_NAMES = ("127.0.0.1", "[::1]", "localhost")


def read_token(settings: TokenSettings) -> str | None:
    """The token, or None where there is none. Raises ConfigError for one that is no token; never names it."""
    if settings.file is not None:
        where = f"token.file: {settings.file}"
        try:
            text = Path(settings.file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} cannot be read ({error})") from None
    else:
        where = f"the variable {settings.environment}"
        text = os.environ.get(settings.environment, "").strip()
        if not text:
            return None
    if len(text) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in text):
        raise ConfigError(
            f"{where} must hold {SHORTEST_TOKEN} or more letters, digits and signs without spaces, such as "
            "`openssl rand -hex 32` prints"
        )
    return text


def check_address(settings: ServeSettings, token: str | None) -> None:
    """Raise ConfigError where others than this machine would be answered without a token."""
    if token is None and not is_local(settings.host):
        raise ConfigError(
            f"host: {settings.host!r} is reached from other machines, so a token is needed: token.file, or the "
            f"variable {settings.token.environment}"
        )


def is_local(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_right(given: bytes, token: str) -> bool:
    """Whether the header `Authorization` holds the token; takes as long for any wrong one."""
    scheme, _, word = given.partition(b" ")
    return hmac.compare_digest(word.strip(), token.encode()) and scheme.lower() == b"bearer"
