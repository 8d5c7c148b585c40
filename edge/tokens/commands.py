"""`wattgate token`: derive decoder keys, decode tokens, issue them for tests and vendors.

Exit status: 0 done, 2 arguments that cannot be used, said in one sentence on standard error,
3 if any token was refused. A key is given in hex, or as @FILE, so that it need not stand in the
list of processes. Nothing here touches a gateway's store.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from edge.core.token import BASE_YEARS, KEY_EXPIRY_MAX, CountMemory, StsMemory, TidMemory, TokenKind
from edge.core.units import UnixSeconds
from edge.tokens.decoder_key import VENDING_KEY_BYTES, DecoderFacts, derive_decoder_key
from edge.tokens.openpaygo_scheme import (
    EXTENDED_VALUE_MAX,
    KINDS,
    STARTING_CODE_MAX,
    VALUE_MAX,
    PaygoDevice,
    issue_paygo,
)
from edge.tokens.records import Record, paygo_records, sts_records
from edge.tokens.sts import (
    AMOUNT_SUBCLASSES,
    AMOUNT_TENTHS_MAX,
    ANY_METER,
    CREDIT,
    CREDIT_SUBCLASSES,
    MANAGEMENT_SUBCLASSES,
    ONE_METER,
    TEST_SUBCLASSES,
    TID_MAX,
    tid_from_time,
)
from edge.tokens.sts_issue import CONTROL_MAX, NewKey, issue_credit, issue_key_change, issue_management, issue_test
from edge.tokens.words import LANGUAGES, language_of, sentence

EXIT_BAD_INPUT = 2
EXIT_REFUSED = 3
_COUNT_MAX = 100_000  # the library walks all counts from 0
_DECODER_KEY_BYTES = 16
_SUBCLASSES: Mapping[int, Iterable[int]] = {
    CREDIT: CREDIT_SUBCLASSES,
    ANY_METER: TEST_SUBCLASSES,
    ONE_METER: MANAGEMENT_SUBCLASSES,
}
# Options of one scheme that say nothing to the other.
_ONLY_STS = ("base", "key_expiry", "commissioned_at", "new_key", "tid", "issued_at", "amount_tenths", "control")
_ONLY_PAYGO = ("starting_code", "count", "used_counts", "type")

TOKEN_EXAMPLE = """example:
  wattgate token key --vending-key abababababababab949494949494949401234567 --pan 600727000000000009 \\
      --sgc 123457 --key-type 2 --ti 01 --krn 1 --base 1993
  wattgate token decode --scheme sts --key f94b6ed353c3bfdb113e2d3a7ea3c41d --base 1993 59386323472137426967
(public test keys: never give them to a device)
"""
KEY_EXAMPLE = """example:
  wattgate token key --vending-key @vending.hex --pan 600727000000000009 --sgc 123457 --key-type 2 --ti 01 \\
      --krn 1 --base 1993 --json
"""
DECODE_EXAMPLE = """Tokens share one memory, in order: the same twice is `used`, and a whole key change
changes the key of those after it. Blanks and dashes do not count; quote a token with blanks.

example:
  wattgate token decode --scheme sts --key f94b6ed353c3bfdb113e2d3a7ea3c41d --base 1993 --json \\
      59386323472137426967 "5938 6323 4721 3742 6967"
  wattgate token decode --scheme openpaygo --key bc41ec9530f6dac86b1a29ab82edc5fb \\
      --starting-code 516959010 --count 1 588224011
"""
ISSUE_EXAMPLE = """example:
  wattgate token issue --scheme sts --key f94b6ed353c3bfdb113e2d3a7ea3c41d --base 1993 \\
      --issued-at 2004-03-01T13:00 --random 5 --amount-tenths 1
  wattgate token issue --scheme sts --key OLD --base 1993 --new-key NEW --ken 255 --krn 2 --key-type 2 --ti 01 \\
      --sgc 123457                                     the four tokens of a key change
  wattgate token issue --scheme openpaygo --key bc41ec9530f6dac86b1a29ab82edc5fb \\
      --starting-code 516959010 --count 1 --type ADD_TIME --value 5
"""


class CommandError(Exception):
    """Arguments that cannot be used, in one sentence."""


def add_token_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `token` and what is below it to the commands of `wattgate`."""
    raw = argparse.RawDescriptionHelpFormatter
    token = commands.add_parser(
        "token", help="derive keys, decode and issue tokens", epilog=TOKEN_EXAMPLE, formatter_class=raw
    )
    token.set_defaults(run=lambda options: _no_command(token))
    below = token.add_subparsers(title="commands", metavar="COMMAND")

    key = below.add_parser("key", help="a meter's decoder key (DKGA04)", epilog=KEY_EXAMPLE, formatter_class=raw)
    add = key.add_argument
    add("--vending-key", required=True, type=_hex(VENDING_KEY_BYTES), metavar="HEX", help="160 bits, or @FILE")
    add("--pan", required=True, type=_digits(18, 18), metavar="N", help="the meter's number, 18 digits")
    add("--sgc", required=True, type=_digits(1, 6), metavar="N", help="supply group code")
    add("--key-type", required=True, type=_whole(0, 3), metavar="N", help="0 to 3")
    add("--ti", required=True, type=_digits(1, 2), metavar="NN", help="tariff index")
    add("--krn", required=True, type=_whole(1, 9), metavar="N", help="key revision number, 1 to 9")
    add("--base", required=True, type=int, choices=BASE_YEARS, help="base year")
    _add_output_options(key)
    key.set_defaults(run=_guarded(_key))

    decode = below.add_parser("decode", help="what tokens say", epilog=DECODE_EXAMPLE, formatter_class=raw)
    _add_device_options(decode)
    add = decode.add_argument
    add("--key-expiry", type=_whole(0, KEY_EXPIRY_MAX), metavar="N", help="sts: key expiry number (255)")
    add("--commissioned-at", type=_instant, metavar="TIME", help="sts: nothing older counts (default: anything does)")
    add("--used-counts", type=_counts, metavar="N,...", help="openpaygo: counts known as used (--count)")
    add("tokens", nargs="+", metavar="TOKEN")
    decode.set_defaults(run=_guarded(_decode))

    issue = below.add_parser("issue", help="make tokens", epilog=ISSUE_EXAMPLE, formatter_class=raw)
    _add_device_options(issue)
    _add_issue_options(issue)
    issue.set_defaults(run=_guarded(_issue))


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scheme", required=True, choices=("sts", "openpaygo"))
    add("--key", required=True, type=_hex(_DECODER_KEY_BYTES), metavar="HEX", help="the device's, 128 bits, or @FILE")
    add("--base", type=int, choices=BASE_YEARS, help="sts: base year")
    add("--starting-code", type=_whole(1, STARTING_CODE_MAX), metavar="N", help="openpaygo (default: of the key)")
    add("--count", type=_whole(0, _COUNT_MAX), metavar="N", help="openpaygo: the last count")
    _add_output_options(parser)


def _add_issue_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--class", dest="token_class", type=_whole(0, 2), default=CREDIT, metavar="N", help="sts: 0 credit (default)")
    add("--subclass", type=_whole(0, 15), default=0, metavar="N", help="sts: 0 electricity, or power limit (default)")
    add("--tid", type=_whole(0, TID_MAX), metavar="N", help="sts: minutes since the base year, or --issued-at")
    add("--issued-at", type=_instant, metavar="TIME", help="sts: like 2004-03-01T13:00, in UTC")
    add("--random", type=_whole(0, 15), metavar="N", help="sts: default is a random one")
    add("--amount-tenths", type=_whole(0, AMOUNT_TENTHS_MAX), metavar="N", help="sts: in 0.1 kWh, rounded up as coded")
    add("--value", type=_whole(0, AMOUNT_TENTHS_MAX), metavar="N",
        help="sts class 2: limit in W, register; openpaygo: days")  # fmt: skip
    add("--control", type=_control, metavar="HEX", help="sts class 1: 44 bits")
    add("--new-key", type=_hex(_DECODER_KEY_BYTES), metavar="HEX", help="sts: a key change, with the options below")
    add("--ken", type=_whole(0, KEY_EXPIRY_MAX), default=KEY_EXPIRY_MAX, metavar="N", help="key expiry number (255)")
    add("--krn", type=_whole(1, 9), metavar="N", help="key revision number")
    add("--key-type", type=_whole(0, 3), metavar="N")
    add("--ti", type=_digits(1, 2), metavar="NN", help="tariff index")
    add("--sgc", type=_digits(1, 6), metavar="N", help="supply group code")
    add("--rollover", action="store_true", help="the new key goes with the next base year")
    add("--section-order", choices=("1432", "1342"), default="1432", help="sections with the key from high to low")
    add("--type", choices=tuple(KINDS), help="openpaygo")
    add("--extended", action="store_true", help="openpaygo: 12 digits, values to 999999")
    add("--restricted", action="store_true", help="openpaygo: digits 1 to 4 only")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    parser.add_argument("--lang", choices=LANGUAGES, default=None, help="language of the words (that of LANG)")


# --- the commands ----------------------------------------------------------------------------


def _no_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return EXIT_BAD_INPUT


def _guarded(
    command: Callable[[argparse.Namespace], tuple[list[Record], Callable[[str, Record], str]]],
) -> Callable[[argparse.Namespace], int]:
    """A command with its records printed, and everything that may be wrong as one sentence and status 2."""

    def run(options: argparse.Namespace) -> int:
        try:
            records, say = command(options)
        except CommandError as error:
            sys.stderr.write(f"wattgate: {error}\n")
            return EXIT_BAD_INPUT
        language = options.lang or language_of(os.environ)
        for record in records:
            line = json.dumps(record, ensure_ascii=False) if options.json else say(language, record)
            encoding = sys.stdout.encoding or "utf-8"
            with suppress(BrokenPipeError):  # somebody looked at the first lines only
                sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        return EXIT_REFUSED if any(record.get("ok") is False for record in records) else 0

    return run


def _key(options: argparse.Namespace) -> tuple[list[Record], Callable[[str, Record], str]]:
    facts = DecoderFacts(
        base_year=options.base,
        tariff_index=options.ti.zfill(2),
        supply_group=options.sgc.zfill(6),
        key_type=options.key_type,
        key_revision=options.krn,
        meter_number=options.pan,
    )
    key = derive_decoder_key(options.vending_key, facts)
    return [{"decoder_key": f"{key:032x}"}], lambda language, record: sentence(language, "key", **record)


def _decode(options: argparse.Namespace) -> tuple[list[Record], Callable[[str, Record], str]]:
    _check_scheme(options)
    if options.scheme == "openpaygo":
        memory = CountMemory.seeded(options.count)
        if options.used_counts is not None:
            memory = CountMemory(options.count, tuple(sorted({options.count, *options.used_counts})))
        return list(paygo_records(options.tokens, _device(options), memory)), _say_paygo
    tids = TidMemory()
    if options.commissioned_at is not None:
        tids = TidMemory.seeded(_tid(options.commissioned_at, options.base, "--commissioned-at"))
    expiry = KEY_EXPIRY_MAX if options.key_expiry is None else options.key_expiry
    memory_sts = StsMemory(options.base, expiry, tids)
    return list(sts_records(options.tokens, int.from_bytes(options.key, "big"), memory_sts)), _say_sts


def _issue(options: argparse.Namespace) -> tuple[list[Record], Callable[[str, Record], str]]:
    _check_scheme(options)
    if options.scheme == "openpaygo":
        return [_issue_paygo(options)], lambda language, record: sentence(language, "issued_count", **record)
    key = int.from_bytes(options.key, "big")
    if options.new_key is not None:
        digits = issue_key_change(key, _new_key(options))
        records = list(sts_records(digits, key, StsMemory(_base_before_last(options))))
        return _without_verdict(records), lambda language, record: sentence(language, "issued_section", **record)
    records = list(sts_records([_issue_sts(options, key)], key, StsMemory(options.base)))
    return _without_verdict(records), lambda language, record: sentence(language, "issued", **record)


def _without_verdict(records: list[Record]) -> list[Record]:
    assert all(record["ok"] for record in records)
    return [{name: value for name, value in record.items() if name != "ok"} for record in records]


def _base_before_last(options: argparse.Namespace) -> int:
    base: int = options.base
    if options.rollover and base == BASE_YEARS[-1]:
        raise CommandError(f"--rollover: no base year follows {base}")
    return base


def _issue_sts(options: argparse.Namespace, key: int) -> str:
    token_class, subclass = options.token_class, options.subclass
    if subclass not in _SUBCLASSES[token_class]:
        allowed = ", ".join(map(str, _SUBCLASSES[token_class]))
        raise CommandError(f"--subclass: found {subclass}; allowed with class {token_class} are {allowed}")
    if token_class == ANY_METER:
        _only(options, "control", needed=("control",), without=("tid", "issued_at", "amount_tenths", "value"))
        return issue_test(subclass, options.control)
    if (options.tid is None) == (options.issued_at is None):
        raise CommandError("--tid or --issued-at: give one of them")
    tid = _tid(options.issued_at, options.base, "--issued-at") if options.tid is None else options.tid
    random = secrets.randbelow(16) if options.random is None else options.random
    if token_class == CREDIT:
        _only(options, "class 0", needed=("amount_tenths",), without=("value", "control"))
        return issue_credit(key, tid, options.amount_tenths, random, subclass)
    _only(options, "class 2", needed=("value",), without=("amount_tenths", "control"))
    if subclass not in AMOUNT_SUBCLASSES and options.value >= 1 << 16:
        raise CommandError(f"--value: found {options.value}; allowed here is at most {(1 << 16) - 1}")
    return issue_management(key, tid, options.value, random, subclass)


def _new_key(options: argparse.Namespace) -> NewKey:
    _only(options, "a key change", needed=("krn", "key_type", "ti", "sgc"), without=("tid", "issued_at", "control"))
    return NewKey(
        key=int.from_bytes(options.new_key, "big"),
        key_expiry=options.ken,
        key_revision=options.krn,
        key_type=options.key_type,
        tariff_index=int(options.ti),
        supply_group=int(options.sgc),
        rollover=options.rollover,
        other_key=options.section_order == "1342",
    )


def _issue_paygo(options: argparse.Namespace) -> Record:
    kind = KINDS.get(options.type)
    if kind is None:
        raise CommandError(f"--type: give one of {', '.join(KINDS)}")
    valued = kind in (TokenKind.CREDIT, TokenKind.SET_CREDIT)
    most = EXTENDED_VALUE_MAX if options.extended else VALUE_MAX
    if valued != (options.value is not None):
        raise CommandError(f"--value: {'give it with' if valued else 'says nothing to'} {options.type}")
    if valued and options.value > most:
        raise CommandError(f"--value: found {options.value}; allowed is at most {most}")
    digits, count = issue_paygo(
        kind,
        options.value,
        _device(options),
        options.count,
        extended=options.extended,
        restricted=options.restricted,
    )
    return {"token": digits, "value": options.value, "type": options.type, "count": count}


def _device(options: argparse.Namespace) -> PaygoDevice:
    return PaygoDevice(options.key.hex(), options.starting_code)


def _check_scheme(options: argparse.Namespace) -> None:
    sts = options.scheme == "sts"
    _only(
        options,
        f"--scheme {options.scheme}",
        needed=("base",) if sts else ("count",),
        without=_ONLY_PAYGO if sts else _ONLY_STS,
    )


def _only(options: argparse.Namespace, what: str, needed: Iterable[str], without: Iterable[str]) -> None:
    """Refuses a command that lacks an option, or has one that would be passed over."""
    for name in needed:
        if getattr(options, name) is None:
            raise CommandError(f"--{name.replace('_', '-')}: {what} needs it")
    for name in without:
        if getattr(options, name, None) is not None:
            raise CommandError(f"--{name.replace('_', '-')}: says nothing to {what}")


def _tid(at: UnixSeconds, base_year: int, option: str) -> int:
    tid = tid_from_time(at, base_year)
    if not 0 <= tid <= TID_MAX:
        raise CommandError(f"{option}: is out of reach of the base year {base_year}")
    return tid


# --- the words -------------------------------------------------------------------------------


def _say_sts(language: str, record: Record) -> str:
    if not record["ok"]:
        return _say_refused(language, record)
    if "section" in record:
        return sentence(language, "changed" if "key_changed" in record else "section", **record)
    if record["class"] == ANY_METER:
        return sentence(language, "test", **record)
    subclass = record["subclass"]
    if record["class"] == ONE_METER:
        return sentence(language, "management", what=sentence(language, f"management.{subclass}"), **record)
    tenths = record["amount_tenths"]
    assert isinstance(tenths, int)
    amount = f"{tenths // 10}.{tenths % 10} {sentence(language, f'unit.{subclass}')}"
    return sentence(language, "credit", what=sentence(language, f"credit.{subclass}"), amount=amount, **record)


def _say_paygo(language: str, record: Record) -> str:
    if not record["ok"]:
        return _say_refused(language, record)
    what = sentence(language, f"paygo.{record['type']}")
    return sentence(language, "paygo_plain" if record["value"] is None else "paygo", what=what, **record)


def _say_refused(language: str, record: Record) -> str:
    reason = sentence(language, f"reason.{record['reason']}")
    return sentence(language, "refused", token=record["token"], reason=reason)


# --- the values of options -------------------------------------------------------------------


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed is a whole number of {low} to {high}")
        return int(text)

    return number


def _digits(shortest: int, longest: int) -> Callable[[str], str]:
    def digits(text: str) -> str:
        if not (text.isascii() and text.isdigit() and shortest <= len(text) <= longest):
            count = str(longest) if shortest == longest else f"{shortest} to {longest}"
            raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed are {count} digits")
        return text

    return digits


def _hex(size: int) -> Callable[[str], bytes]:
    def key(text: str) -> bytes:
        if text.startswith("@"):
            try:
                text = Path(text[1:]).read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                raise argparse.ArgumentTypeError(f"{text[1:]} cannot be read") from None
        if len(text) != 2 * size or not all(digit in "0123456789abcdefABCDEF" for digit in text):
            # What was found is a key: it is not shown.
            raise argparse.ArgumentTypeError(f"allowed are {2 * size} hexadecimal digits, found {len(text)} characters")
        return bytes.fromhex(text)

    return key


def _control(text: str) -> int:
    try:
        number = int(text, 16)
    except ValueError:
        number = -1
    if not 0 <= number <= CONTROL_MAX:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed are at most 11 hexadecimal digits")
    return number


def _counts(text: str) -> tuple[int, ...]:
    whole = _whole(0, _COUNT_MAX)
    return tuple(whole(part.strip()) for part in text.split(","))


def _instant(text: str) -> UnixSeconds:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}; allowed is a time like 2004-03-01T13:00") from None
    return UnixSeconds(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
