"""Who is answered: with a token those who have it, without one this machine alone."""

from pathlib import Path

import pytest

from behaviorlm.config import load_settings
from behaviorlm.errors import ConfigError
from behaviorlm.service.access import check_address, is_local, read_token
from behaviorlm.service.app import build_app
from behaviorlm.service.settings import ServeSettings, TokenSettings
from tests.behaviorlm.service.conftest import Serve

TOKEN = "0123456789abcdef"


def test_without_the_token_only_what_shows_that_it_is_there(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="utf-8")
    client = serve("counts", f"token.file={tmp_path / 'token'}", "host=0.0.0.0")
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200
    for path in ("/v1/model", "/metrics", "/elsewhere", "/v1/model/"):
        refused = client.get(path)
        assert refused.status_code == 401
        assert refused.json()["key"] == "token" and refused.headers["WWW-Authenticate"] == "Bearer"
    assert client.post("/v1/predict", json={}).status_code == 401
    for wrong in (
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        "Bearer \xff",
    ):
        assert client.get("/v1/model", headers={b"Authorization": wrong.encode("latin-1")}).status_code == 401
    for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
        assert client.get("/v1/model", headers={"Authorization": right}).status_code == 200
    # with a token any name may lead here, such as that of a proxy
    shown = client.get("/v1/model", headers={"Authorization": f"Bearer {TOKEN}", "Host": "models.example"})
    assert shown.status_code == 200


def test_without_a_token_no_other_name_leads_here(serve: Serve) -> None:
    """Else a page of another site could ask by a name that it makes stand for 127.0.0.1."""
    client = serve()
    for host, status in (
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
    ):
        assert client.get("/v1/model", headers={"Host": host}).status_code == status


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINE", raising=False)
    assert read_token(TokenSettings(environment="MINE")) is None
    monkeypatch.setenv("MINE", f" {TOKEN}\n")
    assert read_token(TokenSettings(environment="MINE")) == TOKEN


@pytest.mark.parametrize("text", ["short", "0123456789 abcdef", "0123456789abcdeé", ""])
def test_a_weak_token_is_refused_and_not_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="openssl rand") as refused:
        read_token(TokenSettings(file=str(tmp_path / "token")))
    assert not text or text not in str(refused.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token\.file: .*absent"):
        read_token(TokenSettings(file=str(tmp_path / "absent")))


def test_an_address_that_others_reach_needs_a_token(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEHAVIORLM_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "10.0.0.5", "models.example", "127.0.0.1.example"):
        public = load_settings(ServeSettings, None, [f"model={folders['counts']}", f"host='{host}'"])
        with pytest.raises(
            ConfigError, match=r"a token is needed: token\.file, or the variable BEHAVIORLM_TOKEN"
        ):
            build_app(public)
        check_address(public, TOKEN)
    assert all(is_local(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
