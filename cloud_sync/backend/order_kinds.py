"""The orders of `wattgate order` that are a row of a table: a name, an order type, and a field for each argument.

What may be signed by one person and what needs two stands in cloud_sync.order_types, not here.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.commands import CommandDesk, Placed
from cloud_sync.backend.order_values import any_amount_nano, instant, part, share
from cloud_sync.keys import Signer, load_signer
from cloud_sync.order_types import ORDER_TYPES

_Asked = argparse.Namespace


@dataclass(frozen=True, slots=True)
class Field:
    """One argument of an order. A `flag` that begins with dashes may be left out unless `required`."""

    flag: str
    name: str
    help: str
    parse: Callable[[str], Any] = str
    choices: Sequence[str] | None = None
    required: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One sub-command and the order it places."""

    name: str
    order_type: str
    help: str
    example: str  # after GATEWAY
    fields: tuple[Field, ...]


HOLDS: Final = ("important_customer", "operator_hold", "dispute", "weather_hold", "contact_unverified")
DEBTS: Final = ("payment", "time_1", "time_2", "accumulated", "old")
_REFERENCE: Final = Field("reference", "reference", "the case or record it goes back to")

KINDS: Final = (
    Kind(
        "supply-hold",
        "supply_hold",
        "states a reason against cuts, or lifts it",
        "supply-hold weather_hold storm-12 --until 2026-12-31T00:00+08:00",
        (
            Field("kind", "kind", "whose reason it is", choices=HOLDS),
            _REFERENCE,
            Field("--until", "until", "when it ends by itself; the weather needs one", instant),
        ),
    ),
    Kind(
        "set-debt",
        "set_debt",
        "a debt is this much from here on",
        "set-debt M01 old 120.00 bill-3 --second-keys /media/key --second-kid tariff-1",
        (
            Field("kind", "kind", "which debt", choices=DEBTS),
            Field("amount", "amount_nano", "what is owed from here on", any_amount_nano),
            _REFERENCE,
            Field("--share", "share", "payment debt: percent of each payment", share),
            Field("--cap", "cap_nano", "payment debt: at most this much in a period", any_amount_nano),
            Field("--cap-days", "cap_days", "payment debt: days of that period (default: 7)", int),
            Field("--daily", "daily_nano", "time debt: so much a day", any_amount_nano),
        ),
    ),
    Kind(
        "instalments",
        "instalments",
        "old debt is paid in parts",
        "instalments M01 plan-1 120.00 2026-12-31=40 2027-01-31=60",
        (
            Field("plan", "plan_id", "its name"),
            Field("total", "total_nano", "of the old debt", any_amount_nano),
            Field("part", "parts", "DAY=PERCENT, days rising, 100 percent together", part, many=True),
        ),
    ),
    Kind(
        "purchase-order",
        "purchase_order",
        "a numbered amount, appended to what is left or in its place",
        "purchase-order M01 7 append money 50.00 --second-keys /media/key --second-kid tariff-1",
        (
            Field("number", "number", "counts once for ever", int),
            Field("operation", "operation", "what it does", choices=("append", "refresh")),
            Field("unit", "unit", "the account's", choices=("money", "energy", "time")),
            Field("amount", "value_nano", "in that unit", any_amount_nano),
            Field("--alarm", "alarm_nano", "below it the customer is told", any_amount_nano),
            Field("--trip", "trip_nano", "below it there is no credit", any_amount_nano),
        ),
    ),
    Kind(
        "change-tenant",
        "change_tenant",
        "another customer takes over, after a last bill",
        "change-tenant M01 T-2 --second-keys /media/key --second-kid tariff-1",
        (
            Field("tenant", "tenant", "a reference that can be erased, never a name"),
            Field("--opening", "opening_nano", "the new balance (default: 0)", any_amount_nano),
        ),
    ),
    Kind(
        "payment-mode",
        "payment_mode",
        "prepayment, or billed afterwards; it never cuts",
        "payment-mode M01 credit",
        (Field("mode", "mode", "from here on", choices=("prepayment", "credit")),),
    ),
    Kind(
        "correction",
        "correction",
        "money put right by a new entry",
        "correction M01 led-812 'wrong meter' --amount=-3.20 --second-keys /media/key --second-kid tariff-1",
        (
            _REFERENCE,
            Field("reason", "reason", "why"),
            Field("--amount", "amount_nano", "below 0: to the customer's debit", any_amount_nano, required=True),
        ),
    ),
    Kind(
        "reserve",
        "reserved_credit",
        "sets money of the balance aside, or gives it back",
        "reserve M01 --amount=-5.00",
        (Field("--amount", "amount_nano", "below 0: given back", any_amount_nano, required=True),),
    ),
)


def add_kinds(kinds: Any) -> None:
    """Adds a sub-command for each row."""
    for kind in KINDS:
        example = f"example:\n  wattgate order --db cloud.db --keys keys gw-1 {kind.example}\n"
        raw = argparse.RawDescriptionHelpFormatter
        parser = kinds.add_parser(kind.name, help=kind.help, epilog=example, formatter_class=raw)
        of_one_meter = ORDER_TYPES[kind.order_type].meter
        if of_one_meter:
            parser.add_argument("meter", metavar="METER")
        for field in kind.fields:
            _add_field(parser, field)
        if kind.order_type == "supply_hold":
            parser.add_argument("--off", action="store_true", help="lifts it")
        if not of_one_meter:
            parser.add_argument("--meter", default="", metavar="METER", help="(default: the whole site)")
        if ORDER_TYPES[kind.order_type].approved:
            add_second(parser)
        parser.add_argument("--tell-apart", default="", metavar="TEXT", help="makes an equal request another order")
        parser.set_defaults(place=_place, kind_row=kind, off=False)


def add_second(parser: argparse.ArgumentParser) -> None:
    """Where the second person's key is, for what one person may not order."""
    parser.add_argument(
        "--second-keys", required=True, type=Path, metavar="DIR", help="where the second person's key is"
    )
    parser.add_argument("--second-kid", required=True, metavar="KID", help="which key that is")


def second_of(asked: _Asked) -> Signer:
    """The second person's key. Raises OSError or ValueError."""
    return load_signer(asked.second_keys, asked.second_kid)


def _add_field(parser: argparse.ArgumentParser, field: Field) -> None:
    optional = field.flag.startswith("--")
    metavar = field.flag.strip("-").upper()
    settings: dict[str, Any] = {"type": field.parse, "help": field.help, "metavar": metavar}
    if field.choices is not None:
        settings |= {"choices": field.choices, "metavar": None}
    if optional:
        parser.add_argument(field.flag, dest=f"field_{field.name}", required=field.required, **settings)
    else:
        parser.add_argument(f"field_{field.name}", nargs="+" if field.many else None, **settings)


def _place(desk: CommandDesk, asked: _Asked) -> Placed:
    kind: Kind = asked.kind_row
    stated = {field.name: getattr(asked, f"field_{field.name}") for field in kind.fields}
    arguments = {name: value for name, value in stated.items() if value is not None}
    if asked.off:
        arguments["stands"] = False
    second = second_of(asked) if ORDER_TYPES[kind.order_type].approved else None
    return desk.order(
        kind.order_type, asked.gateway, asked.meter, arguments, asked.now(), second, reference=asked.tell_apart
    )
