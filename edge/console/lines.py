"""What a page says about the lines: whether the wire has time left, what goes wrong on it, and what to do about it.

Times are milliseconds (`_ms`) of the line, or the accounting clock (`at`). Shares are whole percent, rounded up:
a wire that is full is never shown as one that is not. Reason codes are those of `edge/bus/README.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from edge.agent.snapshot import AccountView, AnswerTimesView, DeviceView, LineDetail, SiteDetails, StreetSnapshot
from edge.console.formats import Formats

NEARLY_FULL_PERCENT = 80
# What to do about a reason, as codes of the catalogue's `error_advice` context: several reasons have one cause.
ADVICE: Mapping[str, str] = {
    "timeout": "no_answer",
    "exception_10": "no_answer",
    "exception_11": "no_answer",
    "crc": "damaged",
    "truncated": "damaged",
    "trailing_bytes": "damaged",
    "noise_before": "damaged",
    "wrong_count": "damaged",
    "checksum": "damaged",
    "not_a_frame": "damaged",
    "no_end": "damaged",
    "wrong_length": "damaged",
    "wrong_unit": "two_talk",
    "wrong_function": "two_talk",
    "wrong_address": "two_talk",
    "wrong_control": "two_talk",
    "unasked_bytes": "two_talk",
    "line_busy": "two_talk",
    "never_silent": "two_talk",
    "damaged_local_echo": "two_talk",
    "late_reply": "late",
    "wrong_transaction": "late",
    "wrong_identifier": "late",
    "echo_of_request": "echo",
    "no_local_echo": "echo",
    "wrong_protocol": "not_modbus",
    "exception_1": "wrong_model",
    "exception_2": "wrong_model",
    "exception_3": "wrong_model",
    "exception_no_such_data": "wrong_model",
    "exception_not_authorised": "password",
    "exception_4": "device_fault",
    "exception_other_error": "device_fault",
    "meter_clock": "device_fault",
    "exception_6": "device_fault",
    "wrong_echo": "relay",
    "not_obeyed": "relay",
    "relay_state_unknown": "relay",
    "falling": "register",
    "jump": "register",
    "confirmed_falling": "register",
    "confirmed_jump": "register",
    "line_closed": "closed",
}


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """A kind of error: how often, and what to do, empty where nothing can be said."""

    count: int
    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device with whose it is. `condition` is a class of the style sheet: silent, held (some fail) or good."""

    device: DeviceView
    account: AccountView | None
    condition: str
    errors: tuple[ErrorWords, ...]
    answers: str  # how fast it answers and how long it is waited for, empty before the first answer


@dataclass(frozen=True, slots=True)
class LineWords:
    """A line as a page shows it."""

    detail: LineDetail
    used_percent: int | None  # of the poll interval, by the last round; None before the first
    answers: str  # how fast its devices answer, empty before the first answer
    verdict: str
    condition: str  # disobeys (closed), held (full or nearly) or good
    errors: tuple[ErrorWords, ...]
    devices: tuple[DeviceRow, ...]  # those that need a hand first


def lines_in_words(details: SiteDetails, snapshot: StreetSnapshot, formats: Formats) -> tuple[LineWords, ...]:
    """All lines, in the order of the configuration."""
    accounts = {view.meter_id: view for view in snapshot.accounts}
    accounts |= {other.meter_id: view for view in snapshot.accounts for other in view.other_meters}
    return tuple(_line(detail, accounts, formats) for detail in details.lines)


def seconds(milliseconds: int, formats: Formats) -> str:
    """A short time to the millisecond: 0.64 s, 10 s."""
    return formats.language.text("{n} s").format(n=formats.quantity(Decimal(milliseconds) / 1000))


def _line(detail: LineDetail, accounts: Mapping[str, AccountView], formats: Formats) -> LineWords:
    cycle_ms = detail.line.cycle_ms
    used_percent = None if cycle_ms is None else -(-100 * cycle_ms // detail.poll_interval_ms)
    condition, verdict = _verdict(detail, used_percent, formats)
    errors = errors_in_words(detail.line.errors, formats)
    rows = sorted((_device(device, accounts, formats) for device in detail.devices), key=_urgency)
    return LineWords(detail, used_percent, _answers(detail.answers, formats), verdict, condition, errors, tuple(rows))


def _answers(times: AnswerTimesView, formats: Formats) -> str:
    if times.slowest_ms is None:
        return ""
    template = formats.language.text("half within {p50} ms, 95 % within {p95}, 99 % within {p99}, slowest {slowest} ms")
    return template.format(p50=times.p50_ms, p95=times.p95_ms, p99=times.p99_ms, slowest=times.slowest_ms)


def _verdict(detail: LineDetail, used_percent: int | None, formats: Formats) -> tuple[str, str]:
    language, line = formats.language, detail.line
    if not line.open:
        error = language.line_reason(line.last_error or "unknown")
        return "disobeys", language.text("This line is closed: {error}").format(error=error)
    if used_percent is None or line.cycle_ms is None:
        return "good", language.text("No round over this line has ended yet.")
    times = {"cycle": seconds(line.cycle_ms, formats), "interval": seconds(detail.poll_interval_ms, formats)}
    if used_percent > 100:
        template = "The poll interval is too short: a round takes {cycle}, the interval is {interval}."
        return "held", language.text(template).format(**times)
    if used_percent > NEARLY_FULL_PERCENT:
        template = "The wire is nearly full: a round takes {cycle} of {interval}."
        return "held", language.text(template).format(**times)
    template = "The wire has time to spare: a round takes {cycle} of {interval}."
    return "good", language.text(template).format(**times)


def errors_in_words(errors: Mapping[str, int], formats: Formats) -> tuple[ErrorWords, ...]:
    """Every kind of error that occurred, the most frequent first."""
    language = formats.language
    ranked = sorted((item for item in errors.items() if item[1]), key=lambda item: (-item[1], item[0]))
    return tuple(
        ErrorWords(
            number,
            language.term("error", reason),
            language.term("error_advice", ADVICE[reason]) if reason in ADVICE else "",
        )
        for reason, number in ranked
    )


def _device(device: DeviceView, accounts: Mapping[str, AccountView], formats: Formats) -> DeviceRow:
    account = next((accounts[meter_id] for meter_id in device.meter_ids if meter_id in accounts), None)
    condition = "silent" if device.silent else "held" if device.polls_failed or device.readings_rejected else "good"
    answers = _answers(device.answers, formats)
    if answers:
        answers = formats.language.text("answers: {times}; waited for {wait} ms").format(
            times=answers, wait=device.wait_ms
        )
    return DeviceRow(device, account, condition, errors_in_words(device.errors, formats), answers)


def _urgency(row: DeviceRow) -> tuple[bool, int, int]:
    return not row.device.silent, -row.device.polls_failed, row.device.device_id
