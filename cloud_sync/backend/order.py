"""`wattgate order`: a person places a signed order in the backend's database, which sends it until it is answered.

The running backend need not be stopped: it sends what another process has placed. Amounts are decimals
of the currency, times ISO 8601 with an offset or Unix seconds. Exit status: 0 placed (or placed before),
2 it cannot be placed, and why.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cloud_sync.backend.commands import CommandDesk, OrderNotPossible, Placed, Risk
from cloud_sync.backend.database import failures, open_existing
from cloud_sync.backend.order_kinds import add_kinds, add_second, second_of
from cloud_sync.backend.order_values import amount_nano, instant
from cloud_sync.keys import KEYRING_FILE, load_key_ring, load_signers

EXIT_BAD_INPUT: Final = 2
FILE_BYTES_MAX: Final = 128 * 1024
EXAMPLE: Final = """example:
  wattgate order --db cloud.db --keys keys gw-1 credit M01 P-77 50.00
  wattgate order --db cloud.db --keys keys gw-1 set-policy policy.json --meter M01 --meter M02
  wattgate order --db cloud.db --keys keys gw-1 set-policy policy.json --risk-level high --risk-until 1798646400
  wattgate order --db cloud.db --keys keys gw-1 take-back M01 P-77 --second-keys /media/key --second-kid tariff-1
  wattgate order --db cloud.db --keys keys gw-1 permit 2 --out permit.bin
  wattgate order --db cloud.db --keys keys gw-1 notice-receipt M01 2
  wattgate order --db cloud.db --keys keys gw-1 supply-hold weather_hold storm-12 --until 2026-12-31T00:00+08:00
  wattgate order --db cloud.db --keys keys gw-1 result cr-0f3a
`wattgate order --db cloud.db --keys keys gw-1 ORDER --help` has the arguments of each, with an example
"""

# Says what is wrong with a policy document's text by a ValueError. The gateway's own reader, given in.
PolicyCheck = Callable[[str], object]
_Asked = argparse.Namespace


def add_order_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", check_policy: PolicyCheck
) -> None:
    """Adds `order` and what can be ordered to the commands of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    order = commands.add_parser("order", help="place a signed order for a gateway", epilog=EXAMPLE, formatter_class=raw)
    order.add_argument(
        "--db", required=True, metavar="DB", help="the backend's database: a file, sqlite:///FILE or postgresql://..."
    )
    order.add_argument("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and <kid>.pem files")
    order.add_argument("--json", action="store_true", help="one object for programs")
    order.add_argument("gateway", metavar="GATEWAY")
    order.set_defaults(run=_run, check_policy=check_policy, now=_now)
    kinds = order.add_subparsers(required=True, metavar="ORDER")

    credit = _kind(kinds, "credit", "a payment", _credit)
    _meter_and_payment(credit)
    credit.add_argument("amount", type=amount_nano, metavar="AMOUNT")
    for name, what, place in (
        ("cut", "an operator's cut, which no payment undoes", CommandDesk.cut),
        ("restore", "ends an operator's cut", CommandDesk.restore),
        ("arm", "ends an operator's cut once somebody presses the key on site", CommandDesk.arm),
    ):
        supply = _kind(kinds, name, what, _supply)
        supply.add_argument("meter", metavar="METER")
        supply.set_defaults(place_supply=place)
    keep = _kind(kinds, "keep-supply", "refuses every cut of a meter", _keep_supply)
    keep.add_argument("meter", metavar="METER")
    keep.add_argument("--off", action="store_true", help="lifts it")
    back = _kind(kinds, "take-back", "takes back a payment, or a part of it, with two signatures", _take_back)
    _meter_and_payment(back)
    back.add_argument("--amount", type=amount_nano, metavar="AMOUNT", help="a part (default: all that is left)")
    add_second(back)
    back.add_argument("--reference", default="", metavar="TEXT", help="tells two equal requests apart")
    receipt = _kind(kinds, "notice-receipt", "a notice was handed over, as the cloud can prove", _notice_receipt)
    receipt.add_argument("meter", metavar="METER")
    receipt.add_argument("number", type=int, choices=(1, 2, 3), help="which notice")
    receipt.add_argument("--raised-at", type=instant, metavar="TIME", help="(default: the newest the ledger has)")
    receipt.add_argument("--document-hash", metavar="HEX", help="of a formal notice (default: the ledger's)")
    add_kinds(kinds)
    _add_documents(kinds)
    revoke = _kind(kinds, "revoke", "takes back an order that is not answered yet", _revoke)
    revoke.add_argument("cid", metavar="CID")
    permit = _kind(kinds, "permit", "lets a gateway in RECOVERY open a new epoch", _permit)
    permit.add_argument("epoch", type=int, metavar="EPOCH")
    permit.add_argument("--out", type=Path, metavar="FILE", help="also for `wattgate recover --permit FILE`")
    result = _kind(kinds, "result", "what became of an order", _result)
    result.add_argument("cid", metavar="CID")


def _add_documents(kinds: Any) -> None:
    tariff = _kind(kinds, "set-tariff", "sends a tariff and puts it in force", _set_tariff)
    tariff.add_argument("file", type=Path, metavar="FILE")
    tariff.add_argument("--effective-at", required=True, type=instant, metavar="TIME")
    policy = _kind(kinds, "set-policy", "sends a policy and puts meters under it", _set_policy)
    policy.add_argument("file", type=Path, metavar="FILE")
    policy.add_argument("--meter", action="append", default=[], metavar="METER", help="(default: the whole site)")
    policy.add_argument("--risk-level", metavar="NAME", help="a level of the document, with --risk-until")
    policy.add_argument("--risk-until", type=instant, metavar="TIME", help="when the normal policy is back")


def _kind(kinds: Any, name: str, what: str, place: Callable[[CommandDesk, _Asked], Placed]) -> argparse.ArgumentParser:
    kind: argparse.ArgumentParser = kinds.add_parser(name, help=what)
    kind.set_defaults(place=place)
    return kind


def _meter_and_payment(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("meter", metavar="METER")
    kind.add_argument("payment", metavar="PAYMENT")


def _run(options: _Asked) -> int:
    try:
        desk_keys = load_key_ring(options.keys / KEYRING_FILE), load_signers(options.keys)
        with closing(open_existing(options.db)) as database:
            placed = options.place(CommandDesk(database, *desk_keys), options)
            result = database.execute("SELECT result FROM command WHERE cid = ?", (placed.cid,)).fetchone()
    except failures(OrderNotPossible, OSError, ValueError) as error:
        sys.stderr.write(f"wattgate order: {error}\n")
        return EXIT_BAD_INPUT
    facts = {"cid": placed.cid, "new": placed.new, "result": None if result is None else result[0]}
    answer = facts["result"] or "no answer yet"
    line = f"{placed.cid}  {'placed' if placed.new else 'was placed before'}, {answer}"
    sys.stdout.write((json.dumps(facts) if options.json else line) + "\n")
    return 0


def _credit(desk: CommandDesk, asked: _Asked) -> Placed:
    return desk.credit(asked.gateway, asked.meter, asked.payment, asked.amount, _now())


def _supply(desk: CommandDesk, asked: _Asked) -> Placed:
    placed: Placed = asked.place_supply(desk, asked.gateway, asked.meter, _now())
    return placed


def _keep_supply(desk: CommandDesk, asked: _Asked) -> Placed:
    return desk.keep_supply(asked.gateway, asked.meter, not asked.off, _now())


def _take_back(desk: CommandDesk, asked: _Asked) -> Placed:
    second, reference = second_of(asked), asked.reference
    return desk.take_back(asked.gateway, asked.meter, asked.payment, asked.amount, second, _now(), reference)


def _notice_receipt(desk: CommandDesk, asked: _Asked) -> Placed:
    raised_at, document_hash = asked.raised_at, asked.document_hash
    return desk.notice_receipt(asked.gateway, asked.meter, asked.number, _now(), raised_at, document_hash)


def _set_tariff(desk: CommandDesk, asked: _Asked) -> Placed:
    body = _text_of(asked.file)
    return desk.set_tariff(asked.gateway, _version_in(asked.file, body), body, asked.effective_at, _now())


def _set_policy(desk: CommandDesk, asked: _Asked) -> Placed:
    body = _text_of(asked.file)
    try:
        asked.check_policy(body)
    except ValueError as error:
        raise ValueError(f"{asked.file}: {error}") from None
    if (asked.risk_level is None) != (asked.risk_until is None):
        raise ValueError("--risk-level and --risk-until come together: a level without an end would never fall back")
    if asked.risk_level is not None and asked.risk_level not in json.loads(body).get("risk_levels", {}):
        raise ValueError(f"{asked.file}: has no risk level {asked.risk_level!r}")
    risk = None if asked.risk_level is None else Risk(asked.risk_level, asked.risk_until)
    return desk.set_policy(asked.gateway, _version_in(asked.file, body), body, _now(), asked.meter, risk)


def _revoke(desk: CommandDesk, asked: _Asked) -> Placed:
    return desk.revoke(asked.gateway, asked.cid, _now())


def _permit(desk: CommandDesk, asked: _Asked) -> Placed:
    placed = desk.permit_epoch(asked.gateway, asked.epoch, _now())
    if asked.out is not None:
        asked.out.write_bytes(desk.envelope(placed.cid) or b"")
    return placed


def _result(desk: CommandDesk, asked: _Asked) -> Placed:
    if desk.envelope(asked.cid) is None:
        raise ValueError(f"there is no order {asked.cid!r}")
    return Placed(asked.cid, new=False)


def _now() -> int:
    return int(time.time())


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{path}: is longer than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text") from None


def _version_in(path: Path, body: str) -> int:
    try:
        version = json.loads(body)["version"]
    except (ValueError, RecursionError, TypeError, KeyError):
        version = None
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < 2**31:
        raise ValueError(f"{path}: /version: allowed is a whole number from 1 on")
    return version
