"""Why a supply is not back although somebody thinks it should be: the first link that fails.

From money to the socket: is it paid, does an operator keep it open, does a load limit, must a key be
pressed, was the relay told, did it answer, is it read back closed, is there voltage behind it.
Source: RULES.md 7 (restore diagnosis). Money nano-currency, voltage in tenths of a volt.
"""

from collections.abc import Callable, Mapping

from edge.core.account import Account
from edge.core.disconnect_control import MODES, ControlState
from edge.core.lean import dataclass
from edge.core.switching import waits_for_key
from edge.core.units import MoneyNano

VOLTAGE_TENTHS_MIN = 1000  # below this a supply is taken for dead, whatever its nominal voltage


@dataclass(frozen=True, slots=True)
class RestoreFacts:
    """What the diagnosis rests on, besides the account. None: nobody knows."""

    live_nano: MoneyNano
    attempts: int = 0  # commands sent for the present wish
    answered: bool | None = None  # by the relay, to any of them
    output_connected: bool | None = None  # read back
    voltage_tenths: int | None = None  # behind the relay, at the newest sample


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. `holds` is None where nobody can say."""

    code: str
    holds: bool | None
    evidence: Mapping[str, int | str]


def diagnose_restore(account: Account, facts: RestoreFacts) -> tuple[Link, ...]:
    """Every link in order, each with its figures."""
    return tuple(Link(code, *ask(account, facts)) for code, ask in LINKS)


def failing_link(links: tuple[Link, ...]) -> Link | None:
    """The first link that does not hold, else the first nobody can vouch for, else None: the supply is on."""
    broken = next((link for link in links if link.holds is False), None)
    return broken or next((link for link in links if link.holds is None), None)


_Answer = tuple[bool | None, Mapping[str, int | str]]


def _paid(account: Account, facts: RestoreFacts) -> _Answer:
    stands = account.local_reason == "no_credit"
    return not stands, {"live_balance_nano": facts.live_nano}


def _no_load_limit(account: Account, facts: RestoreFacts) -> _Answer:
    return account.local_reason != "load_limit", {}


def _no_operators_cut(account: Account, facts: RestoreFacts) -> _Answer:
    cut = account.control_state is ControlState.DISCONNECTED
    return not cut, {"supply_version": account.supply_version} if cut else {}


def _no_key_needed(account: Account, facts: RestoreFacts) -> _Answer:
    waits = account.control_state is ControlState.READY_FOR_RECONNECTION
    by_itself = "h" in MODES[account.policy.control_mode] and not waits_for_key(account)
    return not waits or by_itself, {"control_mode": account.policy.control_mode}


def _command_sent(account: Account, facts: RestoreFacts) -> _Answer:
    if account.control_state is not ControlState.CONNECTED:
        return False, {"control_state": account.control_state.value}
    return facts.output_connected is True or facts.attempts > 0, {"attempts": facts.attempts}


def _answered(account: Account, facts: RestoreFacts) -> _Answer:
    return True if facts.output_connected is True else facts.answered, {"attempts": facts.attempts}


def _relay_closed(account: Account, facts: RestoreFacts) -> _Answer:
    return facts.output_connected, {}


def _voltage(account: Account, facts: RestoreFacts) -> _Answer:
    if facts.voltage_tenths is None:
        return None, {}
    return facts.voltage_tenths >= VOLTAGE_TENTHS_MIN, {"voltage_tenths": facts.voltage_tenths}


LINKS: tuple[tuple[str, Callable[[Account, RestoreFacts], _Answer]], ...] = (
    ("paid", _paid),
    ("no_operators_cut", _no_operators_cut),
    ("no_load_limit", _no_load_limit),
    ("no_key_needed", _no_key_needed),
    ("command_sent", _command_sent),
    ("answered", _answered),
    ("relay_closed", _relay_closed),
    ("voltage", _voltage),
)
