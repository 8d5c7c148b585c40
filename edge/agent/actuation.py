"""Makes the relays what the accounting wants them to be, and reports what they were read back as.

Wanted states come every round; only here is the edge looked for. A command is not a result: the port reads back, and
only the read-back is reported. The newest wish wins: a command that still waits for the line is taken back when the
wish changes. A relay that disobeys is tried again with growing pauses and then left alone until the wish changes
(RULES.md 7); one that never answered is tried anew once it is heard again, and a closed line is no attempt. Closings
of many are spaced, an operator's cut waits a random while (SECURITY.md R14), and no relay opens above the current it
may break (RULES.md 7). Times: real seconds.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from decimal import Decimal

from edge.core.lean import dataclass
from edge.ports import RelayPort, RelayState

ATTEMPTS_MAX = 5
PAUSE_S_MAX = 60.0
FIRST_READ_S = 10.0  # after the start a relay is read before it is switched, unless it does not answer
NOT_SENT = ("line_closed", "superseded")  # of the relay's port: no attempt


@dataclass(frozen=True, slots=True)
class RelayFacts:
    """Whose supply a relay switches, and where."""

    relay_id: str
    account_id: str
    port: RelayPort
    protected: bool
    breaking_current_a: int | None = None  # above it the relay is not opened


@dataclass(frozen=True, slots=True)
class SwitchingRules:
    """How switching is spread over time. `random_share` gives numbers in [0, 1)."""

    pause_s: float = 1.0  # before the second attempt; it doubles
    closing_spacing_s: float = 0.0  # between two closings of this site
    remote_cut_delay_s_max: float = 0.0
    random_share: Callable[[], float] = lambda: 0.0


async def _nobody_asks(_account_id: str, _current_a: str) -> None:
    """For sites without rated relays."""


def _unknown_current(_account_id: str) -> Decimal | None:
    return None


@dataclasses.dataclass(slots=True)
class _Supply:
    facts: RelayFacts
    wanted: bool | None = None
    observed: bool | None = None
    attempts: int = 0
    pause_until: float = 0.0
    not_before: float = 0.0  # an operator's cut waits until then
    task: asyncio.Task[None] | None = None
    given_up: bool = False
    heard: bool = False  # read back since the first of these attempts
    delayed: bool = False  # waits for a current it may break, and has said so

    def begin_anew(self) -> None:
        self.attempts, self.pause_until, self.given_up, self.heard = 0, 0.0, False, False


class Actuation:
    """One task per relay that is not as it should be."""

    def __init__(
        self,
        relays: Mapping[str, RelayFacts],
        on_observed: Callable[[str, bool], Awaitable[None]],
        on_disobeyed: Callable[[str, str], Awaitable[None]],
        rules: SwitchingRules = SwitchingRules(),
        load_current_a: Callable[[str], Decimal | None] = _unknown_current,
        on_delayed: Callable[[str, str], Awaitable[None]] = _nobody_asks,
    ) -> None:
        """`on_observed(account, connected)` after each read-back, `on_disobeyed(account, reason)` when given up.

        `load_current_a(account)` is the newest current through its meter; `on_delayed(account, amperes)` is told
        once when a cut waits for it to fall.
        """
        self._by_account = {facts.account_id: _Supply(facts) for facts in relays.values()}
        self._by_relay = {facts.relay_id: self._by_account[facts.account_id] for facts in relays.values()}
        self._on_observed = on_observed
        self._on_disobeyed = on_disobeyed
        self._on_delayed = on_delayed
        self._load_current_a = load_current_a
        self._rules = rules
        self._next_closing = 0.0
        self._ended = asyncio.Event()

    def on_relay(self, state: RelayState) -> None:
        """A relay was read with the round."""
        supply = self._by_relay.get(state.relay_id)
        if supply is None:
            return
        if supply.observed is None:
            supply.pause_until = 0.0
        supply.observed = state.closed
        if supply.given_up and not supply.heard:
            supply.begin_anew()
        else:
            supply.heard = True

    def switching(self, account_id: str) -> bool:
        """Whether the relay is not as wanted and is being made so: commanded, not yet read back, not given up."""
        supply = self._by_account.get(account_id)
        return supply is not None and supply.observed is not supply.wanted and not supply.given_up

    def observed(self, account_id: str) -> bool | None:
        """The last read-back of an account's relay."""
        supply = self._by_account.get(account_id)
        return None if supply is None else supply.observed

    def settled(self, account_id: str, connected: bool) -> bool:
        """Whether the supply is wanted so, was read back so, and took no attempt: `want` would only report it again."""
        supply = self._by_account.get(account_id)
        if supply is None:
            return True
        return supply.wanted is connected and supply.observed is connected and not supply.attempts

    async def want(self, account_id: str, connected: bool, remote: bool = False) -> None:
        """The accounting wants this supply so. Repeated every round; does nothing while it is so.

        `remote`: an operator wants it, so that a cut waits a random while.
        """
        supply = self._by_account.get(account_id)
        if supply is None:
            return
        if supply.wanted is not connected:
            supply.wanted = connected
            if supply.task is not None and not supply.task.done():
                supply.facts.port.withdraw_output(supply.facts.relay_id)
            supply.begin_anew()
            supply.delayed = False
            supply.not_before = self._begins_at(connected, remote)
            if supply.observed is None:
                supply.pause_until = asyncio.get_running_loop().time() + FIRST_READ_S
        if supply.observed is not None:
            await self._on_observed(account_id, supply.observed)
        if supply.observed is connected:
            supply.attempts = 0
            return
        loop = asyncio.get_running_loop()
        if supply.task is not None:
            if not supply.task.done():
                return
            supply.task.result()  # a bug in the driver ends the agent, it is not tried again in silence
        if supply.given_up or (supply.facts.protected and not connected):
            return
        if loop.time() < max(supply.pause_until, supply.not_before):
            return
        if not connected and await self._too_much_current(supply):
            return
        begins_at = loop.time()
        if connected:
            begins_at = max(begins_at, self._next_closing)
            self._next_closing = begins_at + self._rules.closing_spacing_s
        waits = begins_at > loop.time()
        drive = self._drive_at(begins_at, supply, connected) if waits else self._drive(supply, connected)
        supply.task = loop.create_task(drive)

    def _begins_at(self, connected: bool, remote: bool) -> float:
        """When a new wish is first acted on: an operator's cut waits, so that many do not fall on one instant."""
        if connected or not remote or not self._rules.remote_cut_delay_s_max:
            return 0.0
        delay_s = self._rules.remote_cut_delay_s_max * self._rules.random_share()
        return asyncio.get_running_loop().time() + delay_s

    async def _too_much_current(self, supply: _Supply) -> bool:
        limit_a = supply.facts.breaking_current_a
        current_a = None if limit_a is None else self._load_current_a(supply.facts.account_id)
        if limit_a is None or current_a is None or current_a <= limit_a:
            return False
        if not supply.delayed:
            supply.delayed = True
            await self._on_delayed(supply.facts.account_id, str(current_a))
        return True

    async def close(self) -> None:
        """Waits for commands that are on the wire; those that wait for their turn are not begun."""
        self._ended.set()
        tasks = [supply.task for supply in self._by_account.values() if supply.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive_at(self, begins_at: float, supply: _Supply, connected: bool) -> None:
        """Waits for this supply's turn, then drives it if it is still to be so."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(begins_at):
                await self._ended.wait()
        if not self._ended.is_set() and supply.wanted is connected and supply.observed is not connected:
            await self._drive(supply, connected)

    async def _drive(self, supply: _Supply, connected: bool) -> None:
        result = await supply.facts.port.set_output(supply.facts.relay_id, connected)
        if result.closed is not None:
            supply.observed, supply.heard = result.closed, True
            await self._on_observed(supply.facts.account_id, result.closed)
        if result.confirmed or supply.wanted is not connected:
            return
        supply.attempts += result.reason not in NOT_SENT
        pause_s = min(PAUSE_S_MAX, self._rules.pause_s * 2 ** max(0, supply.attempts - 1))
        supply.pause_until = asyncio.get_running_loop().time() + pause_s
        if supply.attempts >= ATTEMPTS_MAX:
            supply.given_up = True
            await self._on_disobeyed(supply.facts.account_id, result.reason or "read back otherwise")
