"""Kinds of records, for a filter: what is looked for, not how it is called. A type without a kind is `other`."""

from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, str] = {
    "payments": "PaymentApplied PaymentReversed PaymentRefused PaymentAllocated AllocationReversed TokenAccepted "
    "TokenRefused TokenRelayed KeySectionAccepted EmergencyCreditSelected EmergencyCreditDrawn "
    "EmergencyCreditGivenBack EnergyBought BoughtEnergyReturned BoughtEnergyRepriced CorrectionPosted",
    "charges": "RegisterFrozen BillIssued BillsSettled RoundingPosted DemandChargePosted DailyChargePosted "
    "MinimumBillPosted LateChargePosted DebtSet InstalmentsAgreed InstalmentDue ReservedCreditMoved "
    "GrantedCreditSpent GrantedCreditLapsed MonthCounted CreditPeriodBegan BalanceEvaluated",
    "supply": "DisconnectControlChanged OutputStateObserved CutDeferred CaseEscalated LocalReasonCleared "
    "KeepSupplyChanged HoldRaised HoldCleared SupplyHoldChanged EnergyWhileDisconnected",
    "notices": "NoticeRaised NoticeDelivered EpisodeClosed",
    "orders": "OrderApplied OrderRefused PurchaseOrderApplied RequestRefused",
    "conditions": "ConditionNoted",
    "terms": "AccountOpened TariffAccepted TariffScheduled TariffActivated TermsChanged PolicySet PolicyAccepted "
    "PolicyEnded RiskLevelExpired PaymentModeChanged TenantChanged MeterExchanged DecoderCommissioned",
}
KINDS: Mapping[str, frozenset[str]] = {kind: frozenset(names.split()) for kind, names in _TYPES.items()}
OTHER = "other"


def known_kind(asked: str | None) -> str:
    """The kind asked for, or an empty text for all."""
    return asked if asked is not None and (asked in KINDS or asked == OTHER) else ""


def is_of_kind(record: Mapping[str, Any], kind: str) -> bool:
    """Whether a record is of this kind; every one is of the empty kind."""
    if not kind:
        return True
    name = record.get("type")
    return name in KINDS[kind] if kind in KINDS else all(name not in names for names in KINDS.values())
