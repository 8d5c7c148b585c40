"""The reference backend of a simulated street: the real service, on the street's clock.

    python -m hw.sim.cloud --directory DIR --broker-port P --gateway ID

Acks and orders carry the accounting time of the street; timers of MQTT stay real.
"""

import argparse
import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path

from cloud_sync.backend.backend import Backend
from cloud_sync.backend.service import BackendService, ServiceSettings
from cloud_sync.keys import load_private_key
from cloud_sync.transport import BrokerAddress
from hw.sim.clock import ScaledClock
from hw.sim.demo_site import CLOCK_FILE, CLOUD_FILE, DEVICE_KEY_FILE, KEYS_FOLDER

TIMER_S_MAX = 1.0


def main() -> int:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m hw.sim.cloud", description="The demo's backend.")
    parser.add_argument("--directory", type=Path, required=True, help="the demo's folder")
    parser.add_argument("--broker-port", type=int, required=True, help="on 127.0.0.1")
    parser.add_argument("--gateway", required=True, help="the gateway to take messages from")
    options = parser.parse_args()
    asyncio.run(_serve(options.directory, options.broker_port, options.gateway))
    return 0


async def _serve(directory: Path, port: int, gateway_id: str) -> None:
    clock = ScaledClock(directory / CLOCK_FILE)

    def open_backend() -> Backend:
        backend = Backend.from_directory(directory / CLOUD_FILE, directory / KEYS_FOLDER, TIMER_S_MAX)
        backend.enroll(gateway_id, clock.read().at)
        device_key = load_private_key(directory / DEVICE_KEY_FILE).public_key()
        backend.pin_device_key(gateway_id, device_key.public_bytes_raw(), clock.read().at)
        return backend

    settings = ServiceSettings((BrokerAddress("127.0.0.1", port),), relay_seconds=0.2, timer_seconds_max=TIMER_S_MAX)
    backend_service = BackendService(open_backend, settings, lambda: clock.read().at)
    service = asyncio.ensure_future(backend_service.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, service.cancel)
    listening = asyncio.ensure_future(backend_service.connected_event.wait())
    with suppress(asyncio.CancelledError):
        await asyncio.wait((service, listening), return_when=asyncio.FIRST_COMPLETED)
        print("listening", flush=True)  # or it ended: whoever waits sees that next
        listening.cancel()
        await service


if __name__ == "__main__":
    sys.exit(main())
