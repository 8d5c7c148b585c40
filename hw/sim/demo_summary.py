"""What the demo came to: counted from the journal, the cloud's database and the meters themselves.

Energy in Wh. Read only after everything has stopped.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from cloud_sync.backend.backend import Backend
from cloud_sync.wire import record_hash
from edge.core import events as ev
from edge.core.account import State
from edge.core.ledger import apply
from edge.store.codec import decode_event
from edge.store.journal import JournalError, SqliteJournal
from hw.sim.demo_site import AGENT_FOLDER, CLOUD_FILE, GATEWAY_ID, KEYS_FOLDER, account_of
from hw.sim.street import REGISTERS_FILE


@dataclass(frozen=True, slots=True)
class Ledger:
    """The journal, read whole."""

    events: tuple[ev.Event, ...]
    state: State
    streams: Counter[str]
    chain_ok: bool


def read_ledger(path: Path) -> Ledger:
    """The journal's events and the state they lead to."""
    journal = SqliteJournal.open(path, GATEWAY_ID, record_hash)
    events: list[ev.Event] = []
    chain_ok = True
    try:
        events.extend(decode_event(record.body) for record in journal.replay())
    except JournalError:
        chain_ok = False
    streams = Counter(event.stream for event in events)
    return Ledger(tuple(events), reduce(apply, events, State()), streams, chain_ok)


def summarise(directory: Path, counters: dict[str, int], simulated_s: int, rss_mb: float) -> dict[str, Any]:
    """The demo's JSON object."""
    ledger = read_ledger(directory / AGENT_FOLDER / "journal.db")
    backend = Backend.from_directory(directory / CLOUD_FILE, directory / KEYS_FOLDER)
    charged = charged_energy_wh(ledger)
    metered = metered_energy_wh(directory)
    believed = [name for name, account in ledger.state.accounts.items() if account.hold is None]
    controls = [event for event in ledger.events if isinstance(event, ev.DisconnectControlChanged)]
    notices = Counter(str(event.number) for event in ledger.events if isinstance(event, ev.NoticeRaised))
    return {
        "meters": len(ledger.state.accounts),
        "simulated_days": round(simulated_s / 86_400, 2),
        **counters,
        "notices": {number: notices[number] for number in ("1", "2", "3")},
        "cuts": sum(event.control_state != "connected" for event in controls),
        "restores": sum(event.control_state == "connected" for event in controls),
        "payments_applied": sum(isinstance(event, ev.PaymentApplied) for event in ledger.events),
        "payments_duplicate": sum(
            isinstance(event, ev.PaymentRefused) and event.reason == "duplicate" for event in ledger.events
        ),
        "ledger_records": ledger.streams["led"],
        "cloud_records": backend.counts(GATEWAY_ID).get("led", 0),
        "chain_ok": ledger.chain_ok and backend.chain_ok(),
        "balances_agree": balances_agree(ledger, backend),
        "energy_charged_wh": sum(charged[name] for name in believed),
        "energy_metered_wh": sum(metered[name] for name in believed),
        "accounts_off": sorted(name for name in believed if charged[name] != metered[name]),
        "rss_mb": round(rss_mb, 1),
    }


def charged_energy_wh(ledger: Ledger) -> dict[str, int]:
    """What each account was charged for: all bills and what is estimated since."""
    charged = {name: account.energy_since_issue_wh for name, account in ledger.state.accounts.items()}
    totals = Counter[str]()
    totals.update(charged)
    for event in ledger.events:
        if isinstance(event, ev.BillIssued):
            totals[event.account] += sum(line.energy_wh for line in event.lines)
    return dict(totals)


def metered_energy_wh(directory: Path) -> dict[str, int]:
    """What each register rose by since the meter was installed, as a perfect reader sees it."""
    content = json.loads((directory / REGISTERS_FILE).read_text("utf-8"))
    return {
        account_of(meter_id): meter["register_wh"] - meter["start_register_wh"]
        for meter_id, meter in content["meters"].items()
        if meter_id.startswith("M")
    }


def balances_agree(ledger: Ledger, backend: Backend) -> bool:
    """Whether both sides have the same live balance at the last freeze of every account."""
    here: dict[str, int] = {}
    for event in ledger.events:
        if isinstance(event, ev.RegisterFrozen):
            here[event.account] = event.live_balance_nano
    there = {balance.account_id: balance.live_balance_nano for balance in backend.balances()}
    return bool(here) and here == {name: there.get(name) for name in here}
