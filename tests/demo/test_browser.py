"""A customer and a technician in a real browser, on the running demo: cut, paid, and the current flows again.

Debian's chromium, headless. Pictures of what it showed are left in artefacts/.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cloud_sync.keys import Role, load_signers
from cloud_sync.orders import sign_order
from cloud_sync.voucher import voucher_for_typing
from cloud_sync.wire import CONTRACT_VERSION, Order
from hw.sim.street import SOCKET_FILE, StreetControl

pytestmark = [
    pytest.mark.needs_program("chromium"),
    pytest.mark.needs_program("chromedriver"),
    pytest.mark.timeout(235),  # above all others: it must come while the demo runs
]

ARTEFACTS = Path(__file__).resolve().parents[2] / "artefacts"
ACCOUNT, METER, POSITION = "A05", "M05", "line-1, cabinet 5"  # cut on day 4, pays through the cloud on day 6
AMOUNT_NANO = 60_000_000_000
CUT_S_MAX = 90.0
PAGE_S_MAX = 20
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900",
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
    driver.set_page_load_timeout(PAGE_S_MAX)
    yield driver
    driver.quit()


@pytest.fixture
def picture(browser: webdriver.Chrome) -> Callable[[str], None]:
    """Leaves a picture of the page."""
    ARTEFACTS.mkdir(exist_ok=True)

    def take(name: str) -> None:
        browser.save_screenshot(str(ARTEFACTS / f"demo_{name}.png"))

    return take


def voucher(directory: Path, payment_id: str) -> str:
    """What a shop would print: signed with the demo's vend key."""
    signer = load_signers(directory / "keys")[Role.VEND]
    started_at = json.loads((directory / "clock.json").read_text("utf-8"))["wall_start_at"]
    order = Order(
        v=CONTRACT_VERSION,
        cid=f"voucher-{payment_id}",
        gw="demo-street",
        meter=METER,
        type="credit",
        args={"payment_id": payment_id, "amount_nano": AMOUNT_NANO},
        nbf=started_at,
        kid=signer.kid,
    )
    return voucher_for_typing(sign_order(order, signer))


def test_voucher_typed_in_a_browser_closes_the_relay_and_the_current_flows_again(
    demo: Any, browser: webdriver.Chrome, picture: Callable[[str], None], until: Callable[..., None]
) -> None:
    def shows(path: str, text: str) -> None:
        """The open page, which follows the gateway by itself, comes to show it."""
        wait = WebDriverWait(browser, PAGE_S_MAX, 0.05, ignored_exceptions=[StaleElementReferenceException])
        wait.until(lambda _: text in browser.find_element(By.XPATH, path).text)

    demo.wait_for(f"{ACCOUNT}: relay read back open", CUT_S_MAX)
    with demo.undisturbed(), StreetControl(demo.data / SOCKET_FILE, 5) as street:
        meter = street.registers()["meters"][METER]
        assert (meter["relay_closed"], meter["power_w"]) == (False, 0)

        browser.get(demo.address)
        shows(f"//li[.//a[text()='{POSITION}']]", "No credit")
        picture("street_with_a_customer_cut")

        browser.find_element(By.LINK_TEXT, POSITION).click()
        shows("//*[@id='head']", "open, no supply")
        shows("//*[@id='why']", "Why it is cut")
        picture("account_cut")

        browser.find_element(By.ID, "voucher").send_keys(voucher(demo.data, "P-browser"))
        browser.find_element(By.CSS_SELECTOR, ".form button").click()
        shows("//*[contains(@class, 'answer')]", "The payment is on the account.")
        picture("voucher_accepted")

        def current_flows() -> bool:
            now = street.registers()["meters"][METER]
            return now["relay_closed"] is True and now["power_w"] > 0

        until(current_flows, 10, "a closed relay and a load behind it")
        browser.get(f"{demo.address}account/{ACCOUNT}")
        shows("//*[@id='head']", "closed, current can flow")
        picture("account_restored")
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
