"""The page at `/`: asks its own origin only, takes names as text, and shows what the API answers."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from behaviorlm.config import load_settings
from behaviorlm.predictor.artifact import Artifact
from behaviorlm.predictor.behavior_model import BehaviorModel
from behaviorlm.service.app import build_app
from behaviorlm.service.settings import ServeSettings
from tests.behaviorlm.service.browser import browser_page, found_browser
from tests.behaviorlm.service.conftest import Serve

HOSTILE = (
    "</button><script>document.title='taken'</script><img src=x onerror=document.title='taken'>\u202e\u0007"
)
TOKEN = "0123456789abcdef"


def hostile(model: BehaviorModel) -> BehaviorModel:
    """The model with the first behavior, its run and a column named as nobody should."""
    told = model.artifact.model_dump()
    told["behaviors"][0]["name"] = HOSTILE
    told["origin"]["run"] = HOSTILE
    told["events"]["context_after"] = [HOSTILE]
    return BehaviorModel(replace(model.parts, artifact=Artifact.model_validate(told)))


@contextmanager
def address(model: BehaviorModel, *keys: str) -> Iterator[str]:
    """Where a service of this process is reached over TCP."""
    settings = load_settings(ServeSettings, None, ["model=x", *keys])
    server = uvicorn.Server(
        uvicorn.Config(build_app(settings, lambda: model), port=0, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing_but_its_own(serve: Serve) -> None:
    shown = serve().get("/")
    policy = shown.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert not re.search(r"(src|href)=\"(?!data:,\")|https?://|@import|url\(|innerHTML", shown.text)


def test_a_person_clicks_a_history_together_and_sees_the_ranked_answers(
    models: dict[str, BehaviorModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = found_browser()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    monkeypatch.setenv("BEHAVIORLM_TOKEN", TOKEN)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with address(hostile(models["counts"])) as base, browser_page(browser, tmp_path / "profile") as page:
        page.size(1300, 800)
        page.call("Page.navigate", url=base)
        page.until("document.getElementById('ask') && !document.getElementById('ask').hidden")
        page.run(
            f"document.getElementById('token').value = '{TOKEN}'; document.querySelector('#ask button').click()"
        )
        page.until("document.querySelectorAll('#answers li').length === 8")
        before = page.run("document.querySelector('#answers').innerText")
        assert page.run("document.querySelectorAll('#choices button').length") == 8
        page.run("document.querySelectorAll('#choices button')[0].click()")
        page.run(
            "document.querySelectorAll('#choices button')[2].click(); document.getElementById('explain').click()"
        )
        page.until("document.querySelectorAll('#history .adds').length === 2")
        page.until(f"document.querySelector('#answers').innerText !== {before!r}")
        assert page.run("document.querySelector('#history .name').textContent").endswith("\\u202e\\u0007")
        assert page.run("document.title") == "What comes next?"
        assert page.run("document.querySelectorAll('img, main script').length") == 0
        for width, is_dark in ((1300, False), (1300, True), (390, False)):
            page.size(width, 800, is_dark=is_dark)
            assert page.run("document.documentElement.scrollWidth") <= width
            page.picture(pictures / f"{width}{'-dark' if is_dark else ''}.png")
        page.run("document.querySelector('#history button').click()")
        page.until("document.querySelectorAll('#history li').length === 1")
        heard = page.heard
    asked = [
        each["params"]["request"]["url"] for each in heard if each["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 5
    assert {url for url in asked if not url.startswith((f"{base}/", "data:"))} <= {"about:blank"}
    errors = [
        each["params"] for each in heard if each["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
    ]
    assert all("401" in each["entry"]["text"] for each in errors), errors  # the first one, without the token
