"""The page of `axo inspect --html` in a real browser: searched, opened, pointed at, and with data that would break it.

Chromium is driven by its DevTools protocol over two pipes, so that no driver and no package is needed beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from axo.cli.main import main

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BINARIES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser on this machine ({', '.join(BINARIES)})")

NASTY = (
    "</script><script>window.harm = 1</script><img src=x onerror='window.harm = 2'> \"quoted\" 'too' &amp; "
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u200b\u0007 \u2028 {{ x }} <!--data--> `${1}`\ttab\nline"
)
"""Markup, quotes, direction marks, controls, line separators and template marks."""
ROWS = [
    *(
        {"messages": [{"role": "user", "content": f"Count to {n}."}, {"role": "assistant", "content": f"{n} sheep 🙂"}]}
        for n in range(60)
    ),
    {"messages": [{"role": "user", "content": NASTY}, {"role": "assistant", "content": NASTY}]},
    {"messages": [{"role": "user", "content": "Weigh."}, {"role": "assistant", "content": "Half.", "weight": 0.5}]},
    {"messages": [{"role": "user", "content": "long " * 200}, {"role": "assistant", "content": "too long"}]},
]


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
        script = f'exec "$@" 3<&{commands} 4>&{answers}'  # the browser reads from 3 and writes to 4
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words], pass_fds=(commands, answers), stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path, *, width: int = 1280, height: int = 900) -> None:
        self.events.clear()
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=0, y=0)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        self.send("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def middle(self, selector: str) -> tuple[float, float]:
        """Where to point at an element, once it is in sight."""
        script = f"""(async () => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{ block: "center" }});
            for (const _ of [1, 2]) await new Promise(requestAnimationFrame);  // scrolling is told with the next frame
            const box = e.getClientRects()[0];
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        x, y = self.run(script)
        return x, y

    def point(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.run("new Promise((done) => setTimeout(done))")  # `toggle` comes with the next task

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def type(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.send("Input.insertText", text=text)

    def screenshot(self) -> str:
        """A PNG in base64."""
        return self.send("Page.captureScreenshot")["data"]

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and messages of the console."""
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [event for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self) -> None:
        os.close(self._write)  # the browser ends with its pipe
        os.close(self._read)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._read, 1 << 20)
            assert received, "the browser has ended"
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The page of ROWS, and what `--json` says of them."""
    folder = tmp_path_factory.mktemp("page")
    data = folder / "rows <b> & 'co'.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    keys = {
        "base_model": str(tiny_tokenizer_dir),
        "datasets": [{"path": str(data), "type": "chat_template"}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "sequence_len": 768,
        "max_lost_tokens": 1,
        "learning_rate": 1e-3,
    }
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(keys))
    page = folder / "page.html"
    answer = _inspect(recipe, "--html", str(page), "--json")
    return page, answer


def _inspect(recipe: Path, *words: str) -> dict[str, Any]:
    """What `axo inspect RECIPE WORDS...` says in JSON."""
    caught = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(caught):
        patch.setattr(sys, "argv", ["axo", "inspect", str(recipe), *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return json.loads(caught.getvalue().splitlines()[-1])


def test_the_page_opens_without_a_complaint_and_asks_for_nothing(browser: Browser, made: Any) -> None:
    browser.open(made[0])
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in browser.requests() if url.startswith("file:")]) == 1


def test_a_search_narrows_the_list(browser: Browser, made: Any) -> None:
    browser.open(made[0])
    everything = browser.run("document.querySelector('#found').textContent")
    assert everything == f"{len(ROWS)} of the {len(ROWS)} rows in this page"
    browser.type("#search", "COUNT TO 17")
    assert browser.run("document.querySelector('#found').textContent").startswith("1 of the")
    assert browser.run("[...document.querySelectorAll('.place')].map((e) => e.textContent)") == ["datasets.0, row 18"]
    browser.type("#search", "nothing says this")
    assert browser.run("document.querySelectorAll('#list li').length") == 0


@pytest.mark.parametrize(("box", "rows"), [("weights", [62]), ("dropped", [63]), ("truncated", []), ("differs", [])])
def test_filters_keep_the_rows_that_they_name(browser: Browser, made: Any, box: str, rows: list[int]) -> None:
    browser.open(made[0])
    browser.click(f"#filters input[value={box}]")
    places = browser.run("[...document.querySelectorAll('.place')].map((e) => e.textContent)")
    assert places == [f"datasets.0, row {number}" for number in rows]


def test_a_click_opens_a_sample_with_all_its_tokens(browser: Browser, made: Any) -> None:
    page, answer = made
    browser.open(page)
    assert browser.run("document.querySelectorAll('.tokens').length") == 0
    browser.click("#list summary")
    (look,) = answer["datasets"][0]["rows"][0]["samples"]
    tokens = browser.run("[...document.querySelectorAll('.tokens .t')].map((e) => [e.token.id, e.token.text])")
    assert tokens == [list(pair) for pair in zip(look["ids"], look["texts"], strict=True)]
    trained = browser.run("[...document.querySelectorAll('.tokens .t')].map((e) => e.classList.contains('on'))")
    assert trained == [weight > 0 for weight in look["weights"]]


def test_pointing_at_a_token_shows_its_id_and_the_reason(browser: Browser, made: Any) -> None:
    page, answer = made
    browser.open(page)
    browser.click("#list summary")
    assert browser.run("document.querySelector('#tip').hidden") is True
    browser.point(".tokens .t.on")
    (look,) = answer["datasets"][0]["rows"][0]["samples"]
    first = next(at for at, weight in enumerate(look["weights"]) if weight)
    told = browser.run("document.querySelector('#tip').innerText")
    assert f"id {look['ids'][first]}:" in told
    assert "trained: turn 2 (assistant): content — role assistant is in roles_to_train" in told
    assert browser.run("document.querySelector('#tip').hidden") is False


def test_the_keyboard_reaches_every_token(browser: Browser, made: Any) -> None:
    browser.open(made[0])
    browser.click("#list summary")
    browser.press("Tab")
    for _ in range(3):
        browser.press("ArrowRight")
    assert browser.run("document.activeElement.token.at") == 3
    assert browser.run("document.querySelector('#tip').innerText").startswith("token 4, id ")
    browser.press("Escape")
    assert browser.run("document.querySelector('#tip').hidden") is True


def test_counts_on_the_page_are_those_of_the_report(browser: Browser, made: Any) -> None:
    page, answer = made
    browser.open(page)
    rows = "[...document.querySelectorAll('.set tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    cells = dict(browser.run(rows))
    report = answer["datasets"][0]["report"]
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", cells["tokens"])]
    assert numbers == [report[f"tokens_{what}"] for what in ("read", "kept", "dropped", "truncated")]
    assert numbers[0] == sum(numbers[1:])
    assert cells["trained"].startswith(f"{report['trained_tokens']:,} of {report['tokens_kept']:,} ")


def test_nasty_data_is_shown_as_text_and_no_script_of_it_runs(browser: Browser, made: Any) -> None:
    browser.open(made[0])
    browser.type("#search", "window.harm")
    browser.click("#list summary")
    shown = browser.run("[...document.querySelectorAll('.tokens .t')].map((e) => e.token.text).join('')")
    assert shown.count(NASTY) == 2
    written = browser.run("document.querySelector('.tokens').innerText")
    for text in ("</script>", "<img src=x", "U+202E", "U+200B", "U+0007", "U+2028", "⇥", "⏎", "<!--data-->", "&amp;"):
        assert text in written
    assert browser.run("typeof window.harm") == "undefined"
    assert browser.run("document.querySelectorAll('#list img, #list script').length") == 0
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser: Browser, made: Any, width: int) -> None:
    browser.open(made[0], width=width)
    browser.type("#search", "window.harm")
    browser.click("#list summary")
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_a_weight_fades_the_colour_and_is_written(browser: Browser, made: Any) -> None:
    browser.open(made[0])
    browser.click("#filters input[value=weights]")
    browser.click("#list summary")
    assert browser.run("document.querySelector('.tokens .weight').textContent") == "×0.5"
    light, full = browser.run(
        "['.tokens .t.on', '.legend .t.on'].map((s) => getComputedStyle(document.querySelector(s)).backgroundColor)"
    )
    assert light != full
    lines = browser.run("getComputedStyle(document.querySelector('.tokens .t.on')).textDecorationLine")
    assert lines == "underline"  # colour is not the only sign
