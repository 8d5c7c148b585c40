"""What a run of seeds must have seen at least once: a test that never gets there proves nothing."""

from collections import Counter
from collections.abc import Mapping

# Name: what must have happened.
SOMETIMES: Mapping[str, str] = {
    "local_cut": "a customer without credit was cut by the gateway alone",
    "restore_after_payment": "a payment reconnected a customer who had been cut",
    "operator_cut": "a technician's order cut somebody",
    "payment_while_operator_cut": "a payment came while an operator's cut stood",
    "duplicate_order": "an order reached the gateway again after it had been answered",
    "voucher_twice": "one voucher was entered twice, or entered and sent",
    "payment_refused": "a payment was refused by a limit",
    "late_reply": "an answer came after its time was over",
    "foreign_reply": "the answer of another device came",
    "stale_reply": "an old answer came in place of the new one",
    "noise": "bits of an answer were wrong",
    "dead_meter": "a meter did not answer for hours",
    "stuck_relay": "a contact did not obey",
    "hand_on_contact": "a hand moved a contact",
    "power_cut_before_commit": "the power went before a commit",
    "power_cut_before_anchor": "the power went between a commit and the anchor",
    "power_cut_after_commit": "the power went after a commit that nobody heard of",
    "power_cut_in_recovery": "the power went again while the gateway came up",
    "old_card": "the gateway started on an old copy of its card and stood by",
    "partition_over_7_days": "the cloud was out of reach for more than seven days",
    "message_lost": "the broker lost a message",
    "message_doubled": "the broker delivered a message twice",
    "forged_order": "an attacker with the broker's password sent an order of his own",
    "replayed_order": "an attacker replayed what he had recorded",
    "clock_forward": "the clock was set forward by weeks",
    "clock_back": "the clock was set back by weeks",
    "boot_in_1970": "the gateway started without any idea of the time",
    "energy_bought": "a payment bought energy by the blocks of its month",
    "energy_bought_above_limit": "a payment bought energy beyond the first block",
    "demand_charged": "a month's power was charged by its contract",
    "demand_above_contract": "power above the contract was charged again",
    "bill_issued": "a bill was issued",
    "register_hold": "a register that cannot be believed was held",
    "relay_disobeys": "the gateway gave up on a relay and raised an alarm",
    "emergency_credit": "a customer selected the emergency credit",
    "blocker_important_customer": "an important customer was spared",
    "blocker_operator_hold": "an operator's hold stood against a cut",
    "blocker_dispute": "a dispute stood against a cut",
    "blocker_weather_hold": "the weather stood against a cut",
    "blocker_contact_unverified": "an unverified contact stood against a cut",
    "blocker_policy_not_valid": "a policy that was not valid any more enforced nothing",
    "blocker_credit_mode": "somebody in credit mode was not cut",
    "blocker_mode_changed": "a change of mode began the grace anew",
    "blocker_emergency_credit": "emergency credit stood against a cut",
    "blocker_friendly_period": "friendly hours stood against a cut",
    "blocker_keep_supply": "a keep-supply order stood against a cut",
    "blocker_register_hold": "a held register stood against a cut",
    "blocker_stale_reading": "a stale reading stood against a cut",
    "blocker_not_read_again": "a reading too old to cut on stood against a cut",
    "blocker_clock_not_trusted": "an untrusted clock stood against a cut",
    "blocker_minimum_debt": "a small debt stood against a cut",
    "blocker_window_closed": "the hour stood against a cut",
    "blocker_batch_limit": "the limit of cuts an hour stood against a cut",
    "blocker_cloud_out_of_reach": "the offline policy stood against a cut",
    "protected_escalated": "a protected customer in arrears was handed to a person",
}


class Sometimes:
    """Counts what happened. Names that nobody listed are counted too and asked of nobody."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def saw(self, name: str) -> None:
        """It happened."""
        self.counts[name] += 1

    def listed(self) -> dict[str, int]:
        """Every listed name with its count."""
        return {name: self.counts[name] for name in SOMETIMES}
