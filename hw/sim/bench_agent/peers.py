"""The two gateways that are compared: what they are told to read, and how they are started.

Both read the nine points of each meter one by one, as they do, once in `interval_s`, and publish every value with
QoS 1. thingsboard-gateway is a Python of its own (it pins another pymodbus); collectd is unpacked, not installed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

THINGSBOARD, COLLECTD = "thingsboard-gateway", "collectd"


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a meter, by its registers (holding, function code 3)."""

    name: str
    address: int
    registers: int


# Of edge/meters/hiking_dds238_2.toml; power_l1 and power_total are one register.
POINTS = (
    Point("energy_total", 0x00, 2),
    Point("energy_export_total", 0x08, 2),
    Point("energy_import_total", 0x0A, 2),
    Point("voltage_l1", 0x0C, 1),
    Point("current_l1", 0x0D, 1),
    Point("power_total", 0x0E, 1),
    Point("power_factor_total", 0x10, 1),
    Point("frequency", 0x11, 1),
    Point("relay", 0x1A, 1),
)


@dataclass(frozen=True, slots=True)
class Command:
    """How a gateway is started."""

    command: list[str]
    environment: Mapping[str, str]


def write_thingsboard(
    program: Path, folder: Path, ports: Sequence[int], meters: int, broker_port: int, interval_s: int
) -> Command:
    """thingsboard-gateway, `program` being the Python it is installed in."""
    slaves = [
        {
            "host": "127.0.0.1",
            "port": port,
            "type": "tcp",
            "method": "socket",
            "unitId": unit,
            "deviceName": f"M{line}-{unit}",
            "timeout": 3,
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "pollPeriod": interval_s * 1000,
            "attributes": [],
            "attributeUpdates": [],
            "rpc": [],
            "timeseries": [
                {
                    "tag": point.name,
                    "type": f"{16 * point.registers}uint",
                    "functionCode": 3,
                    "objectsCount": point.registers,
                    "address": point.address,
                }
                for point in POINTS
            ],
        }
        for line, port in enumerate(ports, 1)
        for unit in range(1, meters + 1)
    ]
    gateway = {
        "thingsboard": {
            "host": "127.0.0.1",
            "port": broker_port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "deviceFiltering": {"enable": False},
            "security": {"type": "accessToken", "accessToken": "bench"},
            "qos": 1,
            "reportStrategy": {"type": "ON_RECEIVED"},
            "checkingDeviceActivity": {"checkDeviceInactivity": False},
        },
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100_000},
        "grpc": {"enabled": False},
        "connectors": [{"type": "modbus", "name": "Modbus", "configuration": "modbus.json"}],
    }
    quiet = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler", "level": "ERROR"}},
        "root": {"level": "ERROR", "handlers": ["console"]},
    }
    settings = folder / "config"
    settings.mkdir(parents=True)
    for name, content in (("tb_gateway", gateway), ("modbus", {"master": {"slaves": slaves}}), ("logs", quiet)):
        (settings / f"{name}.json").write_text(json.dumps(content), "utf-8")
    start = "from thingsboard_gateway.tb_gateway import main; main()"
    return Command([str(program), "-c", start], {"TB_GW_CONFIG_DIR": str(settings)})


def write_collectd(
    root: Path, folder: Path, ports: Sequence[int], meters: int, broker_port: int, interval_s: int
) -> Command:
    """collectd with its modbus and mqtt plugins, from the Debian packages unpacked in `root`."""
    folder.mkdir(parents=True)
    data = "".join(
        f'<Data "{point.name}">\n RegisterBase {point.address}\n RegisterCmd ReadHolding\n'
        f" RegisterType Uint{16 * point.registers}\n Type gauge\n"
        f' Instance "{point.name}"\n</Data>\n'
        for point in POINTS
    )
    collect = "".join(f'  Collect "{point.name}"\n' for point in POINTS)
    hosts = "".join(
        f'<Host "line-{line}">\n Address "127.0.0.1"\n Port "{port}"\n Interval {interval_s}\n'
        + "".join(f' <Slave {unit}>\n  Instance "m{unit}"\n{collect} </Slave>\n' for unit in range(1, meters + 1))
        + "</Host>\n"
        for line, port in enumerate(ports, 1)
    )
    publish = f'<Publish "bench">\n Host "127.0.0.1"\n Port {broker_port}\n Prefix "collectd"\n QoS 1\n</Publish>\n'
    text = (
        f'BaseDir "{folder}"\nPIDFile "{folder}/pid"\nPluginDir "{root}/usr/lib/collectd"\n'
        f'TypesDB "{root}/usr/share/collectd/types.db"\nInterval {interval_s}\n'
        f"LoadPlugin modbus\nLoadPlugin mqtt\n<Plugin modbus>\n{data}{hosts}</Plugin>\n"
        f"<Plugin mqtt>\n{publish}</Plugin>\n"
    )
    file = folder / "collectd.conf"
    file.write_text(text, "utf-8")
    libraries = ":".join(str(path) for path in sorted((root / "usr" / "lib").glob("*-linux-gnu*")))
    return Command([str(root / "usr/sbin/collectd"), "-f", "-C", str(file)], {"LD_LIBRARY_PATH": libraries})


Writer = Callable[[Path, Path, Sequence[int], int, int, int], Command]
WRITERS: Mapping[str, Writer] = {THINGSBOARD: write_thingsboard, COLLECTD: write_collectd}
