"""Builders for the accounting core: a site in Shanghai, a flat tariff, accounts and clocks on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from edge.core import commands as cmd
from edge.core import events as ev
from edge.core.account import Register, State
from edge.core.calendar import fixed_zone, midnight_of
from edge.core.charge import Rating
from edge.core.policy import Policy
from edge.core.purchased import as_used, purchase_blocks
from edge.core.rating import reference_rate
from edge.core.step import Stepped, step
from edge.core.tariff import Tariff, compile_tariff, load_tariff
from edge.core.units import ClockQuality, ClockReading, MoneyNano, UnixSeconds, WattHours

SHANGHAI_S = 8 * 3600
END_AT = 1_900_000_000
ACCOUNT = "A01"


def instant(text: str) -> int:
    """Unix seconds of an ISO time with offset, or of a local time in Shanghai."""
    return int(datetime.fromisoformat(text if "+" in text[10:] else f"{text}+08:00").timestamp())


def tariff_document(**changes: Any) -> dict[str, Any]:
    """Heilongjiang households (worked examples, cn_hlj): three monthly blocks, one price all day."""
    document: dict[str, Any] = {
        "format": 1,
        "id": "cn-hlj",
        "version": 1,
        "currency": "CNY",
        "minor_digits": 2,
        "time_zone": "Asia/Shanghai",
        "valid_from": "2020-01-01",
        "cycle": {"length": "month", "start_day": 1},
        "periods": [{"name": "all", "windows": [{"from": "00:00", "to": "24:00"}]}],
        "blocks": {"scope": "cycle", "limits_kwh": ["170", "260"]},
        "prices": {"base_by_period": {"all": "0"}, "adder_by_block": ["0.51", "0.56", "0.81"]},
    }
    return {**document, **changes}


def rating_of(*documents: dict[str, Any]) -> Rating:
    """The rating of these tariffs by the reference."""
    zone = fixed_zone("Asia/Shanghai", SHANGHAI_S, END_AT + 400 * 86_400)
    tariffs = [load_tariff(document) for document in documents]
    starts = [max(instant("2023-12-01T00:00"), midnight_of(zone, tariff.first_day)) for tariff in tariffs]
    used = [as_used(tariff) for tariff in tariffs]
    compiled = [compile_tariff([tariff], zone, start, END_AT) for tariff, start in zip(used, starts, strict=True)]
    sold = {key: purchase_blocks(tariff) for key, tariff in zip(map(key_of, tariffs), tariffs, strict=True)}
    keys = [key_of(tariff) for tariff in tariffs]
    return Rating(
        rate=reference_rate(compiled),
        indexes={key: index for index, key in enumerate(keys)},
        positions={key: tariff.position_count for key, tariff in zip(keys, compiled, strict=True)},
        valid_from={key: midnight_of(zone, tariff.first_day) for key, tariff in zip(keys, tariffs, strict=True)},
        zone=zone,
        minor_nano=10_000_000,
        terms={key: tariff.terms for key, tariff in zip(keys, tariffs, strict=True)},
        purchases={key: blocks for key, blocks in sold.items() if blocks is not None},
    )


def key_of(tariff: Tariff) -> str:
    return f"{tariff.tariff_id}@{tariff.version}"


@dataclass
class Site:
    """A core under test: commands in, everything that happened kept."""

    rating: Rating
    state: State = field(default_factory=State)
    events: list[ev.Event] = field(default_factory=list)
    last: Stepped | None = None
    boot_id: str = "boot-1"
    quality: ClockQuality = ClockQuality.NTP
    doubted: bool = False
    elapsed_offset_s: int = 0
    cloud_silent_s: int | None = None

    def clock(self, at: int) -> ClockReading:
        """The clock at an instant: monotonic time runs with it unless a test steps the wall."""
        elapsed_ms = (at - instant("2024-01-01T00:00") + self.elapsed_offset_s) * 1000
        return ClockReading(UnixSeconds(at), elapsed_ms, self.boot_id, self.quality, self.doubted)

    def do(self, command: cmd.Command) -> list[ev.Event]:
        """One step; returns its events."""
        self.last = step(self.state, command, self.rating)
        self.state = self.last.state
        self.events.extend(self.last.events)
        return list(self.last.events)

    def open(
        self,
        at: int,
        register_wh: int = 0,
        opening_nano: int = 0,
        policy: Policy | None = None,
        account_id: str = ACCOUNT,
        tariff: str = "cn-hlj@1",
        protected: bool = False,
    ) -> list[ev.Event]:
        """Opens an account at a register."""
        return self.do(
            cmd.OpenAccount(
                received=self.clock(at),
                account_id=account_id,
                meter_id=f"M{account_id[1:]}",
                policy=policy or Policy(),
                tariff=tariff,
                register=Register(UnixSeconds(at), WattHours(register_wh)),
                opening_nano=MoneyNano(opening_nano),
                protected=protected,
            )
        )

    def round(self, at: int, register_wh: int | None, record: bool = True, **changes: Any) -> list[ev.Event]:
        """A round with one reading of the account, or without any."""
        samples = () if register_wh is None else (self.sample(at, register_wh, **changes),)
        return self.do(cmd.TakeRound(self.clock(at), samples, record, self.cloud_silent_s))

    def sample(self, at: int, register_wh: int, **changes: Any) -> cmd.Sample:
        """A reading of the account."""
        return replace(cmd.Sample(ACCOUNT, UnixSeconds(at), WattHours(register_wh)), **changes)

    def receipt(self, at: int, number: int) -> list[ev.Event]:
        """The customer has the notice."""
        return self.do(cmd.ConfirmNotice(self.clock(at), ACCOUNT, number, "local_display"))

    def pay(self, at: int, amount_nano: int, payment_id: str = "P1", **changes: Any) -> list[ev.Event]:
        """Money comes in."""
        payment = cmd.ApplyPayment(
            received=self.clock(at),
            account_id=ACCOUNT,
            payment_id=payment_id,
            amount_nano=MoneyNano(amount_nano),
            door="cloud",
            paid_at=UnixSeconds(at),
        )
        return self.do(replace(payment, **changes))

    def names(self, *skip: str) -> list[str]:
        """Names of all events so far."""
        return [type(event).__name__ for event in self.events if type(event).__name__ not in skip]


@pytest.fixture
def site() -> Site:
    """A site with Heilongjiang's household tariff."""
    return Site(rating_of(tariff_document()))


@pytest.fixture(scope="session")
def at() -> Callable[[str], int]:
    """Unix seconds of a local time."""
    return instant


@pytest.fixture(scope="session")
def make_site() -> Callable[..., Site]:
    """A site with other tariffs."""
    return lambda *documents: Site(rating_of(*documents))


@pytest.fixture(scope="session")
def document() -> Callable[..., dict[str, Any]]:
    """The tariff document, with changes."""
    return tariff_document
