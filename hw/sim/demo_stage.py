"""The hands of the demo's story: the till, the post office, the weather and a customer at the console."""

import asyncio
import http.client
import re
import uuid
from pathlib import Path
from urllib.parse import urlencode

from cloud_sync.backend.backend import Backend
from cloud_sync.keys import Role, load_signers
from cloud_sync.orders import sign_order
from cloud_sync.voucher import voucher_for_typing
from cloud_sync.wire import CONTRACT_VERSION, Order
from hw.sim.clock import ScaledClock
from hw.sim.demo_processes import Child
from hw.sim.demo_site import CLOUD_FILE, GATEWAY_ID, KEYS_FOLDER
from hw.sim.street import StreetControl

PATIENCE_S = 20.0
RETYPE_S = 0.3
FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


class DemoStage:
    """Implements the story's Stage on the demo's processes."""

    def __init__(
        self, directory: Path, console_port: int, control: StreetControl, broker: Child, clock: ScaledClock
    ) -> None:
        self._directory, self._console_port = directory, console_port
        self._control, self._broker, self._clock = control, broker, clock

    async def pay_by_cloud(self, meter_id: str, payment_id: str, amount_nano: int) -> None:
        """A channel of the cloud takes money; the running backend sends the order."""
        await asyncio.to_thread(self._place_credit, meter_id, payment_id, amount_nano)

    async def pay_by_voucher(self, meter_id: str, payment_id: str, amount_nano: int) -> None:
        """A shop sells a voucher, and the customer types it into the console."""
        signer = load_signers(self._directory / KEYS_FOLDER)[Role.VEND]
        order = Order(
            v=CONTRACT_VERSION,
            cid=f"voucher-{uuid.uuid4().hex[:12]}",
            gw=GATEWAY_ID,
            meter=meter_id,
            type="credit",
            args={"payment_id": payment_id, "amount_nano": amount_nano},
            nbf=self._clock.read().at,
            kid=signer.kid,
        )
        text = voucher_for_typing(sign_order(order, signer))
        await self._type(text)

    async def _type(self, text: str) -> None:
        """A customer whose page breaks off types again: the voucher is the same and counts once."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_S
        while True:
            try:
                await asyncio.to_thread(enter_voucher, self._console_port, text)
            except (OSError, http.client.HTTPException):
                if loop.time() > give_up_at:
                    raise
                await asyncio.sleep(RETYPE_S)
            else:
                return

    async def silence(self, meter_id: str, *, silent: bool) -> None:
        """A meter stops answering, or answers again."""
        await asyncio.to_thread(self._control.silence, meter_id, silent)

    async def cloud(self, *, up: bool) -> None:
        """The broker is gone, or back."""
        await (self._broker.start() if up else self._broker.stop())

    def _place_credit(self, meter_id: str, payment_id: str, amount_nano: int) -> None:
        backend = Backend.from_directory(self._directory / CLOUD_FILE, self._directory / KEYS_FOLDER)
        try:
            backend.credit(GATEWAY_ID, meter_id, payment_id, amount_nano, self._clock.read().at)
        finally:
            backend.close()


def enter_voucher(port: int, text: str) -> None:
    """Types a voucher into the console as a browser would: the form, its token, the answer's page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/voucher")
        page = connection.getresponse()
        cookie = (page.getheader("set-cookie") or "").partition(";")[0]
        token = FORM_TOKEN.search(page.read().decode())
        if token is None:
            raise OSError("the console showed no voucher form")
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": cookie,
            "Origin": f"http://127.0.0.1:{port}",
        }
        connection.request("POST", "/voucher", urlencode({"voucher": text, "form_token": token[1]}), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 303:
            raise OSError(f"the console refused the form with status {answer.status}")
    finally:
        connection.close()
