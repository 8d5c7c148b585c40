"""The console in a real browser: what a person with a phone sees and does.

Debian's chromium, headless. The browser blocks, so it runs beside the loop that serves it.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from edge.console.server import serve

pytestmark = [pytest.mark.needs_program("chromium"), pytest.mark.needs_program("chromedriver")]

PHONE, DESK = (390, 844), (1280, 800)
LIMIT_S = 20
PATHS = (
    "/", "/?show=cut", "/account/A-1002", "/account/A-1004", "/events", "/lines", "/areas", "/system", "/voucher",
    "/token", "/nowhere",
)  # fmt: skip
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    monkeypatch.setenv("SE_OFFLINE", "true")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver", env=dict(os.environ)))
    driver.set_page_load_timeout(LIMIT_S)
    yield driver
    driver.quit()


def set_size(browser: webdriver.Chrome, size: tuple[int, int]) -> None:
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def beside(world: Any, steps: Callable[[str, Callable[[Callable[[], None]], None]], None]) -> None:
    """Serves the console while `steps(address, on_loop)` drives the browser in another thread."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[int] = loop.create_future()
        serving = asyncio.create_task(serve(world.app, "127.0.0.1", 0, ready.set_result))

        def on_loop(change: Callable[[], None]) -> None:
            loop.call_soon_threadsafe(change)

        try:
            await asyncio.to_thread(steps, f"http://127.0.0.1:{await ready}", on_loop)
        finally:
            serving.cancel()
            await asyncio.wait({serving})

    asyncio.run(run())


def until(browser: webdriver.Chrome, condition: Callable[[], object]) -> None:
    """An element may be replaced by the next event between being found and being read: then it is looked for again."""
    replaced = [StaleElementReferenceException]
    WebDriverWait(browser, LIMIT_S, poll_frequency=0.05, ignored_exceptions=replaced).until(lambda _: condition())


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the browser logged, but for the answer to a page that is not there."""
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    entries = [entry["message"] for entry in log]
    return [entry for entry in entries if "404" not in entry]


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_every_page_fits_the_screen_in_both_languages_without_complaint(
    world: Any, browser: webdriver.Chrome, size: tuple[int, int]
) -> None:
    def steps(address: str, on_loop: Any) -> None:
        set_size(browser, size)
        for language in ("en", "zh-CN"):
            for path in PATHS:
                browser.get(f"{address}{path}{'&' if '?' in path else '?'}lang={language}")
                width = browser.execute_script("return document.documentElement.scrollWidth")
                assert width <= size[0], f"{path} is {width} wide"
                assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == language
                assert complaints(browser) == []
                if size == PHONE:
                    assert small_targets(browser) == []

    beside(world, steps)


def small_targets(browser: webdriver.Chrome) -> list[str]:
    """Controls too small for a gloved finger. A link inside a sentence or a row is excused: its row is the target."""
    script = """
        return Array.from(document.querySelectorAll(
            "nav a, .languages a, .tiles a, button, .button, textarea, select, input.digits"))
            .filter(element => element.getBoundingClientRect().height < 44)
            .map(element => element.outerHTML)"""
    found: list[str] = browser.execute_script(script)
    return found


def test_a_voucher_is_entered_from_an_account_and_the_page_says_what_happened(
    world: Any, browser: webdriver.Chrome
) -> None:
    def steps(address: str, on_loop: Any) -> None:
        set_size(browser, PHONE)
        browser.get(f"{address}/")
        browser.find_element(By.LINK_TEXT, "Building 3, unit 2").click()
        until(browser, lambda: "No credit" in browser.find_element(By.ID, "why").text)
        browser.find_element(By.ID, "voucher").send_keys("ABCD EFGH JKMN")
        browser.find_element(By.CSS_SELECTOR, ".form button").click()
        until(browser, lambda: "/voucher/" in browser.current_url)
        answer = browser.find_element(By.CSS_SELECTOR, ".answer").text
        assert "The payment is on the account." in answer
        assert "18.79 CNY" in answer
        browser.refresh()
        assert world.door.entered == [("ABCD EFGH JKMN", "console")]
        assert complaints(browser) == []

    beside(world, steps)


def test_digits_of_a_token_are_grouped_as_they_are_typed_and_corrected(world: Any, browser: webdriver.Chrome) -> None:
    def steps(address: str, on_loop: Any) -> None:
        set_size(browser, PHONE)
        browser.get(f"{address}/account/A-1004")
        browser.find_element(By.CSS_SELECTOR, 'a[href^="/token?"]').click()
        until(browser, lambda: "/token?" in browser.current_url)
        field = browser.find_element(By.ID, "digits")
        field.send_keys("12345678-9012")
        assert field.get_attribute("value") == "1234 5678 9012"
        field.send_keys(*[Keys.ARROW_LEFT] * 10, Keys.BACKSPACE, "0")
        assert field.get_attribute("value") == "1230 5678 9012"
        assert field.get_property("selectionStart") == 4
        field.send_keys(Keys.END, "34567890", Keys.ENTER)
        until(browser, lambda: "/token/" in browser.current_url)
        assert world.door.typed == [("A-1004", "1230 5678 9012 3456 7890", "console")]
        browser.refresh()
        assert len(world.door.typed) == 1
        assert complaints(browser) == []

    beside(world, steps)


def test_an_open_street_follows_the_gateway_and_keeps_the_focus(
    world: Any, browser: webdriver.Chrome, make_account: Any
) -> None:
    def steps(address: str, on_loop: Any) -> None:
        on_loop(lambda: world.publish([make_account(1), make_account(2), make_account(3)], version=5))
        browser.get(f"{address}/")
        link = browser.find_element(By.LINK_TEXT, "Building 3, unit 3")
        browser.execute_script("arguments[0].focus()", link)
        cut = make_account(3, control_state="disconnected", control_reason="operator", output_connected=False)
        on_loop(lambda: world.publish([make_account(1), make_account(2), cut], version=6))
        until(browser, lambda: browser.find_element(By.ID, "count-cut").text == "1")
        first = browser.find_element(By.CSS_SELECTOR, "#rows > li")
        assert "Building 3, unit 3" in first.text
        assert "Cut by an operator" in first.text
        assert browser.switch_to.active_element.text == "Building 3, unit 3"
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        until(browser, lambda: browser.current_url.endswith("/account/A-1003"))
        assert complaints(browser) == []

    beside(world, steps)


def test_a_lost_gateway_is_said_and_its_return_too(world: Any, browser: webdriver.Chrome) -> None:
    def steps(address: str, on_loop: Any) -> None:
        browser.get(f"{address}/")
        banner = browser.find_element(By.ID, "offline")
        assert not banner.is_displayed()
        on_loop(world.app.state.console.stopping.set)
        until(browser, banner.is_displayed)
        assert browser.find_element(By.ID, "account-A-1002").is_displayed()
        on_loop(world.app.state.console.stopping.clear)
        until(browser, lambda: not banner.is_displayed())

    beside(world, steps)


def test_everything_can_be_read_without_scripts(world: Any, browser: webdriver.Chrome) -> None:
    def steps(address: str, on_loop: Any) -> None:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser.get(f"{address}/")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#rows > li")) == 12
        browser.get(f"{address}/account/A-1002")
        assert "Returns once 31.21 is paid" in browser.find_element(By.ID, "why").text
        assert browser.find_element(By.CSS_SELECTOR, "figure svg").is_displayed()
        assert not browser.find_element(By.ID, "offline").is_displayed()

    beside(world, steps)
