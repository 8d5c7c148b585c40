"""A cluster that loses a server, and two brokers that know nothing of each other, of which one dies: 0 lost."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = 30


@pytest.mark.slow
@pytest.mark.needs_program("nats-server")
def test_nats_cluster_of_three_loses_a_server_under_load_and_nothing_else(
    tmp_path: "Path", databases: Any, play: Any, comes_true: Any
) -> None:
    from tests.cloud_sync.faults.programs import new_nats_cluster
    from tests.cloud_sync.faults.street import Street

    servers = new_nats_cluster(tmp_path, 3)
    street = Street(tmp_path, databases.new(), *servers)
    ports = [server.port for server in servers]
    for number, name in enumerate(street.gateway_ports):
        street.gateway_ports[name] = ports[number:] + ports[:number]
    street.backend_ports = ports[1:]
    street.subscribe_qos = 0  # else the cluster agrees on three consumers for each of them whenever one comes back

    async def scenario() -> None:
        async with street.running():
            await street.takes_records()
            await street.load(ROUNDS)
            street.broker.kill()
            await street.load(ROUNDS)
            await street.settled()
            await street.check_books()
            assert [server.is_running for server in servers] == [False, True, True]

    play(scenario())


@pytest.mark.needs_program("mosquitto")
def test_one_of_two_mosquitto_shards_dies_and_its_gateways_walk_to_the_other(
    tmp_path: "Path", databases: Any, play: Any
) -> None:
    from tests.cloud_sync.faults.programs import new_mosquitto
    from tests.cloud_sync.faults.street import Street

    dying, other = new_mosquitto(tmp_path), new_mosquitto(tmp_path)
    street = Street(tmp_path, databases.new(), dying, other, is_sharded=True)
    street.gateway_ports["gw-3"] = [other.port, dying.port]

    async def scenario() -> None:
        async with street.running():
            await street.takes_records()
            await street.load(ROUNDS)
            await street.settled()
            dying.kill()
            await street.load(ROUNDS)
            await street.settled()
            await street.check_books()
            assert not dying.is_running

    play(scenario())
