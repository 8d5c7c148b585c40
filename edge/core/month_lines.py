"""Month lines of a live account: what its power costs, posted at the midnight that ends its billing month.

They stand before the bill of that midnight, or wait in the next one's total where bills come in another
cycle. What is in force when the month ends counts for all of it: the tariff, the contract or capacity. A
month the account was not open in from its first day is a part: 1/divisor a day. A measured peak is a
peak, however short the month. Power W or VA, money nano-currency, days local days since 1970-01-01.
Source: RULES.md 2, 3 and 10.
"""

from collections.abc import Iterator, Sequence

from edge.core.account import Account
from edge.core.calendar import date_from_day
from edge.core.demand import Contracted, DemandLine, DemandPart, contract_parts, demand_charge, over_contract
from edge.core.issue_cycle import ends_billing_month
from edge.core.terms import ContractStep, Demand, DemandKind, Terms

WINDOW_MIN = 15  # reading records are as far apart: what is measured is the mean power between two of them
_SECONDS_PER_MINUTE = 60


def not_measured_here(terms: Terms, periods: Sequence[str]) -> list[str]:
    """What of a tariff's demand no account on site can be charged for."""
    found = []
    for demand in terms.demands:
        needs = _is_measured(demand)
        if needs and set(demand.periods) != set(periods):
            found.append(f"demand charge {demand.name} measured in some periods only")
        if needs and demand.window_min != WINDOW_MIN:
            found.append(f"demand charge {demand.name} measured over {demand.window_min} minutes, not {WINDOW_MIN}")
        if demand.ratchet is not None:
            found.append(f"demand charge {demand.name} with a ratchet")
    return found


def not_contracted(terms: Terms, contracted: Contracted) -> str | None:
    """Which figure of the account a tariff's demand needs that neither it nor the tariff states, or None."""
    for demand in terms.demands:
        if demand.kind is not DemandKind.MEASURED and not _steps(demand, contracted):
            return "capacity_va" if demand.kind is DemandKind.CAPACITY else "contract_w"
    return None


def demand_window_s(terms: Terms | None) -> int:
    """How long a window is that power is measured over; 0: nothing is."""
    measured = terms is not None and any(_is_measured(demand) for demand in terms.demands)
    return WINDOW_MIN * _SECONDS_PER_MINUTE if measured else 0


def month_first_day(issue_day: int, ended_day: int) -> int:
    """The first day of the billing month that a local day is in."""
    day = ended_day
    while not ends_billing_month(issue_day, day - 1):
        day -= 1
    return day


def demand_lines(account: Account, terms: Terms, opened_day: int, end_day: int) -> Iterator[DemandLine]:
    """The lines of the billing month up to `end_day` (not in it), by the tariff's demand charges in their order."""
    month_day = month_first_day(account.policy.issue_day, end_day - 1)
    first_day = max(month_day, opened_day)
    whole = first_day == month_day and ends_billing_month(account.policy.issue_day, end_day - 1)
    month = date_from_day(month_day)[1]
    for demand in terms.demands:
        if month in demand.months:
            yield from _lines(demand, account, (first_day, end_day), whole)


def _lines(demand: Demand, account: Account, days: tuple[int, int], whole: bool) -> Iterator[DemandLine]:
    measured_w = account.demand.power_w_max if account.demand is not None else None
    if demand.kind is DemandKind.MEASURED:
        parts = [] if measured_w is None else [DemandPart(measured_w, None)]
    else:
        steps = _steps(demand, account.contracted)
        parts = [part for part in contract_parts(steps, *days, whole) if part.power_w]
    for part in parts:
        billed_w = part.power_w
        if demand.kind is DemandKind.CONTRACT and demand.over_contract is not None and measured_w is not None:
            billed_w = over_contract(demand.over_contract, part.power_w, measured_w)
        amount_nano = demand_charge(demand, DemandPart(billed_w, part.days))
        divisor = None if part.days is None else demand.day_divisor
        yield DemandLine(demand.name, demand.kind.value, billed_w, part.power_w, part.days, divisor, amount_nano)


def _steps(demand: Demand, contracted: Contracted) -> tuple[ContractStep, ...]:
    """The account's own figure goes before the document's."""
    own_w = contracted.capacity_va if demand.kind is DemandKind.CAPACITY else contracted.contract_w
    return demand.contract if own_w is None else (ContractStep(0, own_w),)


def _is_measured(demand: Demand) -> bool:
    return demand.kind is DemandKind.MEASURED or demand.over_contract is not None
