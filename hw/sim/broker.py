"""An MQTT broker as a process of its own, for the demo: amqtt, pure Python, from PyPI.

    python -m hw.sim.broker --port 1883

Ends on SIGTERM or SIGINT. The contract does not care how good a broker is, so this one will do
here; a site runs Mosquitto.
"""

import argparse
import asyncio
import logging
import signal
import sys
from typing import Any

from amqtt.broker import Broker


def main() -> int:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m hw.sim.broker", description="An MQTT broker for the demo.")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1")
    options = parser.parse_args()
    for name in ("amqtt", "transitions"):  # they tell every packet otherwise
        logging.getLogger(name).setLevel(logging.CRITICAL)
    asyncio.run(_serve(options.port))
    return 0


async def _serve(port: int) -> None:
    config: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = Broker(config)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    sys.exit(main())
