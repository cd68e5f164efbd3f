"""Credentials in addresses are not shown, whatever stands around them; nothing else is changed."""

import pytest
from pydantic import Field

from behaviorlm.config import Settings, masked, validate_settings
from behaviorlm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:s3cr-t@host:5000/x", "http://***@host:5000/x"),
        ("https://s3cr-t@host", "https://***@host"),
        ("postgresql+psycopg2://ann:s3cr-t/x@host/db", "postgresql+psycopg2://***@host/db"),
        ("refused: 'http://ann:a@s3cr-t@host' and more", "refused: 'http://***@host' and more"),
        ("ann:s3cr-t@host:5000", "***@host:5000"),
        ("mysql://host/db?user=ann&password=s3cr-t&x=1", "mysql://host/db?user=ann&password=***&x=1"),
        ("postgresql://ann:s3cr-t@/s3cr-t@host/db", "postgresql://***@host/db"),
        ("postgresql://host/db?sslpassword=s3cr-t", "postgresql://host/db?sslpassword=***"),
        (
            "http://host:5000?access_token=s3cr-t&api_key=s3cr-t",
            "http://host:5000?access_token=***&api_key=***",
        ),
        (
            "mssql:///?odbc_connect=UID%3Da%3BPWD%3Ds3cr-t%21%3BX%3D1",
            "mssql:///?odbc_connect=UID%3Da%3BPWD%3D***%3BX%3D1",
        ),
        ("two http://a:s3cr-t@b and https://c:s3cr-t@d", "two http://***@b and https://***@d"),
    ],
)
def test_a_secret_is_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert "s3cr-t" not in masked(text)
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/runs/x@2/log",
        "http://host:5000/#/experiments/1",
        "at 18:05 ann@example.org wrote",
        "a: b",
        "",
    ],
)
def test_what_holds_no_secret_is_left_alone(text: str) -> None:
    assert masked(text) == text


class _Holding(Settings):
    number: int = Field(default=1, description="a number")


@pytest.mark.parametrize("key", ["number", "unknown"])
def test_an_error_about_a_value_hides_it(key: str) -> None:
    with pytest.raises(ConfigError, match="host") as refused:
        validate_settings(_Holding, {key: "http://ann:s3cr-t@host"}, "a.yaml")
    assert "s3cr-t" not in str(refused.value)
