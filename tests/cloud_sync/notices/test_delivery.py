"""Notices from the ledger to the customer and back: once, in order of preference, with proof."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud_sync.backend.commands import CommandDesk
from cloud_sync.backend.database import open_database, transaction
from cloud_sync.keys import generate_key_directory
from cloud_sync.notices import outbox
from cloud_sync.notices.channels import open_channels, signature
from cloud_sync.notices.contacts import contacts_of
from cloud_sync.notices.delivery import LOST_AFTER_S, Delivery
from cloud_sync.notices.ledger import read_ledgers
from cloud_sync.notices.states import State, Trigger
from edge.core import events as ev
from edge.core.units import MoneyNano, UnixSeconds

NOON = 1_798_689_600
KEY = ("gw-1", "A01", 2, NOON)


def state_of(street: Any, number: int = 2) -> str:
    notice = outbox.notice_of(street.database, ("gw-1", "A01", number, NOON))
    assert notice is not None
    return notice.state.value


def outcomes(street: Any) -> list[tuple[str, str | None]]:
    notice = outbox.notice_of(street.database, KEY)
    assert notice is not None
    return [(attempt.channel, attempt.outcome) for attempt in outbox.attempts_of(street.database, notice)]


def test_a_notice_reaches_the_customer_once_and_its_receipt_the_gateway(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice(document_hash="ab" * 32)
    done = street.run()
    assert (done.read, done.sent, done.receipts) == (1, {"delivered": 1}, 1)
    assert street.run().sent == {}
    (sent,) = provider.sent
    assert sent["to"] == "+8613800138000"
    assert "-1.230000001 CNY" in sent["text"]
    assert ("ab" * 32) in sent["text"]
    assert provider.requests[0][2]["Authorization"] == "Bearer t-1"
    (order,) = street.orders()
    assert (order["meter"], order["args"]) == (
        "M01", {"number": 2, "raised_at": NOON, "document_hash": "ab" * 32},
    )  # fmt: skip


def test_the_account_pays_nothing_for_being_told(street: Any) -> None:
    street.contact()
    street.raise_notice()
    street.run()
    rows = street.database.execute("SELECT type FROM command").fetchall()
    assert [row[0] for row in rows] == ["notice_receipt"]


def test_a_message_that_was_only_accepted_is_asked_about_until_it_is_delivered(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(202, {"id": "m/7", "state": "accepted"}), (200, {"id": "m/7", "state": "accepted"})]
    assert street.run().receipts == 0
    assert street.run().asked == 0
    street.at += 60
    assert street.run().receipts == 0
    street.at += 60
    assert street.run().receipts == 1
    assert provider.requests[-1][:2] == ("GET", "/messages/m%2F7")
    assert len(provider.sent) == 1


def test_a_provider_that_never_reports_is_not_asked_for_ever(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.usual = (202, {"id": "m-7", "state": "accepted"})
    asked = []
    for _day in range(6):
        asked.append(street.run().asked)
        street.at += 86_400
    assert asked == [0, 1, 1, 1, 0, 0]
    assert state_of(street) == "accepted"
    assert street.orders() == []


def test_a_question_that_fails_says_nothing_about_the_message(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(202, {"id": "m-7", "state": "accepted"}), (404, {}), (0, None)]
    street.run()
    for _question in range(3):
        assert state_of(street) == "accepted"
        street.at += 60
        street.run()
    assert state_of(street) == "delivered"
    assert len(provider.sent) == 1


def test_an_answer_that_no_database_could_hold_is_kept_all_the_same(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice(account="A01")
    provider.answers = [(200, {"id": "m\0\ud800", "state": "delivered"})]
    street.run()
    assert state_of(street) == "delivered"


def test_an_account_whose_name_fits_no_header_is_told_too(street: Any, provider: Any) -> None:
    street.contact(account="户\r\nX: 1")
    street.raise_notice(account="户\r\nX: 1")
    street.run()
    assert len(provider.sent) == 1


def test_what_the_provider_reports_as_failed_goes_to_the_next_channel(street: Any, provider: Any, mailbox: Any) -> None:
    street.contact()
    street.contact("email", "someone@example.org", preference=2)
    street.raise_notice()
    provider.answers = [(202, {"id": "m-7", "state": "accepted"}), (200, {"id": "m-7", "state": "failed"})]
    street.run()
    street.at += 60
    street.run()
    assert outcomes(street) == [("sms", "refused"), ("email", "accepted")]
    assert len(mailbox.mails) == 1


def test_a_channel_that_refuses_hands_over_to_the_next_at_once(street: Any, provider: Any, mailbox: Any) -> None:
    street.contact()
    street.contact("email", "someone@example.org", preference=2, language="zh")
    street.raise_notice()
    provider.usual = (422, {"error": "no such number"})
    street.run()
    assert outcomes(street) == [("sms", "refused"), ("email", "accepted")]
    (mail,) = mailbox.mails
    assert mailbox.encrypted == [True]
    assert mail["Subject"] == "您的电费余额已用完"
    assert "-1.230000001 CNY" in mail.get_content()
    assert street.orders() == []  # that a server took a mail proves nothing about the customer


def test_an_agreement_may_say_that_an_accepted_mail_is_a_receipt(street: Any, settings: Any) -> None:
    street.contact("email", "someone@example.org")
    street.raise_notice()
    by_agreement = msgspec.structs.replace(settings.email, receipt="accepted")
    assert street.run(msgspec.structs.replace(settings, email=by_agreement)).receipts == 1


def test_an_address_that_nobody_verified_proves_nothing(street: Any, provider: Any) -> None:
    street.contact(verified=False)
    street.raise_notice()
    assert street.run().receipts == 0
    assert len(provider.sent) == 1
    assert street.orders() == []


def test_a_busy_provider_is_tried_again_after_growing_pauses_and_then_the_next_channel(
    street: Any, provider: Any, mailbox: Any
) -> None:
    street.contact()
    street.contact("email", "someone@example.org", preference=2)
    street.raise_notice()
    provider.usual = (503, {})
    times = []
    for _minute in range(30):
        before = len(provider.requests)
        street.run()
        times += [street.at - NOON] * (len(provider.requests) - before)
        street.at += 60
    assert times == [0, 60, 360, 1260]
    assert len(mailbox.mails) == 1


def test_when_no_channel_is_left_the_notice_has_failed_and_a_person_may_send_it_again(
    street: Any, provider: Any
) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(400, {})]
    street.run()
    assert state_of(street) == "failed"
    outbox.resend(street.database, KEY, street.at)
    street.run()
    assert state_of(street) == "delivered"
    assert len({sent["id"] for sent in provider.sent}) == len(provider.sent) == 2


@pytest.mark.parametrize("answer", [(0, None), (500, {}), (200, "what?"), (200, {"state": "perhaps"})])
def test_what_may_have_been_sent_is_not_sent_again_by_itself(street: Any, provider: Any, answer: Any) -> None:
    street.contact()
    street.contact("email", "someone@example.org", preference=2)
    street.raise_notice()
    provider.answers = [answer]
    street.run()
    street.at += 86_400
    street.run()
    assert state_of(street) == "in_doubt"
    assert len(provider.sent) == 1
    assert street.orders() == []


def test_a_provider_that_sends_once_for_one_key_is_asked_again(street: Any, provider: Any, settings: Any) -> None:
    idempotent = msgspec.structs.replace(settings, sms=msgspec.structs.replace(settings.sms, idempotent=True))
    street.contact()
    street.raise_notice()
    provider.answers = [(0, None)]
    street.run(idempotent)
    street.at += 60
    street.run(idempotent)
    first, second = (headers["Idempotency-Key"] for _command, _path, headers, _body in provider.requests)
    assert first == second
    assert state_of(street) == "delivered"


def test_a_run_that_was_killed_while_sending_leaves_a_doubt_and_no_second_message(
    street: Any, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    street.contact()
    street.raise_notice()
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "finish", killed)  # the process ends after the message has left
        with pytest.raises(KeyboardInterrupt):
            street.run()
    assert state_of(street) == "sending"
    street.at += LOST_AFTER_S
    street.run()
    assert state_of(street) == "in_doubt"
    assert len(provider.sent) == 1


def test_a_process_that_is_killed_while_it_sends_leaves_a_doubt(
    street: Any, provider: Any, settings: Any, tmp_path: Path, until: Any
) -> None:
    street.contact()
    street.raise_notice()
    generate_key_directory(tmp_path / "keys")
    never_quiet = {"zone": "UTC", "quiet_from": "00:00", "quiet_until": "00:00", "sms": {"url": provider.url}}
    (tmp_path / "notices.json").write_text(json.dumps(never_quiet))
    options = ["--keys", str(tmp_path / "keys"), "--config", str(tmp_path / "notices.json"), "--once"]
    command = [sys.executable, "-m", "edge.cli", "notices", "run", "--db", street.place, *options]
    provider.may_answer.clear()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: provider.requests, 20.0, "the message at the provider")
    finally:
        process.kill()
        process.wait()
        provider.may_answer.set()
    assert state_of(street) == "sending"
    sql = "SELECT max(started_at) FROM notice_attempt"
    street.at = street.database.execute(sql).fetchone()[0] + LOST_AFTER_S
    street.run()
    assert state_of(street) == "in_doubt"
    assert len(provider.sent) == 1


def test_two_runs_beside_each_other_send_one_message(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    read_ledgers(street.database, street.at)
    (seen,) = outbox.in_state(street.database, State.WAITING)  # by a run that is slower than the next
    street.run()
    contact = contacts_of(street.database)[0]
    with transaction(street.database):
        assert outbox.claim(street.database, seen, contact, "", street.at) is None
    assert len(provider.sent) == 1


def test_two_runs_at_the_same_time_send_each_notice_once(
    street: Any, provider: Any, settings: Any, ring: Any, signers: Any
) -> None:
    for account in ("A01", "A02"):
        street.contact(account=account)
        for number in (1, 2, 3):
            street.raise_notice(number, account)
    start = threading.Barrier(2)

    def run() -> None:
        with closing(open_database(street.place)) as database:
            desk = CommandDesk(database, ring, signers)
            start.wait(10)
            Delivery(database, desk, settings, open_channels(settings), lambda: NOON).run_once()

    with ThreadPoolExecutor(2) as pool:
        for running in [pool.submit(run), pool.submit(run)]:
            running.result(60)
    assert len({sent["id"] for sent in provider.sent}) == len(provider.sent) == 6
    assert len(street.orders()) == 6


def test_an_answer_that_comes_after_another_run_gave_up_changes_nothing(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(0, None)]
    street.run()
    notice = outbox.notice_of(street.database, KEY)
    assert notice is not None
    outbox.finish(street.database, notice, State.SENDING, 1, Trigger.DELIVER, ("late", "m-1"), NOON, NOON)
    assert state_of(street) == "in_doubt"
    assert outcomes(street) == [("sms", "in_doubt")]


def test_a_notice_that_was_closed_while_it_was_being_sent_is_not_sent_again(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(503, {})]
    street.run()
    street.database.execute("UPDATE notice SET closed_at = ?", (NOON,))  # by another run, before the answer
    street.at += 60
    street.run()
    assert state_of(street) == "withdrawn"
    assert len(provider.sent) == 1


def test_what_is_delivered_after_the_customer_paid_is_no_receipt_any_more(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    provider.answers = [(202, {"id": "m-7", "state": "accepted"})]
    street.run()
    street.record(ev.EpisodeClosed(UnixSeconds(NOON), "A01", "balance_restored", MoneyNano(5)))
    street.at += 60
    street.run()
    assert state_of(street) == "delivered"
    assert street.orders() == []


def test_reading_a_ledger_again_does_not_end_what_was_raised_after_the_end(street: Any, provider: Any) -> None:
    street.record(ev.EpisodeClosed(UnixSeconds(NOON), "A01", "balance_restored", MoneyNano(5)))
    street.raise_notice()
    assert read_ledgers(street.database, NOON) == 1
    street.database.execute("DELETE FROM notice_mark")  # a run that read the same part and was slower
    assert read_ledgers(street.database, NOON) == 0
    assert state_of(street) == "waiting"


def test_an_address_that_was_added_after_the_change_of_tenant_stays(street: Any) -> None:
    street.record(tenant_changed(NOON - 60))
    street.contact()
    street.run()
    assert [contact.channel for contact in contacts_of(street.database)] == ["sms"]


def test_before_a_cut_the_pauses_are_short(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice(number=3)
    provider.usual = (503, {})
    for _minute in range(10):
        street.run()
        street.at += 60
    assert len(provider.sent) == 4
    assert state_of(street, 3) == "failed"
    sql = "SELECT max(started_at) FROM notice_attempt"
    assert street.database.execute(sql).fetchone()[0] == NOON + 180


def test_a_cut_is_told_when_the_day_is_used_up(street: Any, provider: Any, settings: Any) -> None:
    few = msgspec.structs.replace(settings, per_customer_per_day=1)
    street.contact()
    street.raise_notice(number=2)
    street.run(few)
    street.raise_notice(number=3)
    street.run(few)
    assert len(provider.sent) == 2


def test_a_new_tenant_is_not_told_what_the_last_one_owed_and_keeps_no_address(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice()
    street.record(tenant_changed(NOON + 60))
    street.run()
    assert state_of(street) == "withdrawn"
    assert contacts_of(street.database) == []
    assert provider.sent == []


def tenant_changed(at: int) -> ev.Event:
    values: dict[str, Any] = {item.name: 0 for item in fields(ev.TenantChanged) if item.default is MISSING}
    return ev.TenantChanged(**(values | {"at": at, "account": "A01", "tenant": "t-2", "former_tenant": "t-1"}))


def test_a_customer_who_paid_is_not_told_any_more(street: Any, provider: Any) -> None:
    street.raise_notice()
    street.record(ev.EpisodeClosed(UnixSeconds(NOON), "A01", "balance_restored", MoneyNano(5)))
    street.contact()
    street.run()
    assert state_of(street) == "withdrawn"
    assert provider.sent == []


def test_a_notice_without_an_address_waits_for_one(street: Any, provider: Any) -> None:
    street.raise_notice()
    assert street.run().no_contact == 1
    street.contact()
    street.run()
    assert len(provider.sent) == 1


def test_quiet_hours_hold_in_the_zone_of_the_site_and_end_to_the_minute(street: Any, provider: Any) -> None:
    street.contact()
    street.raise_notice(number=3)
    street.at = NOON + 10 * 3600 + 17  # 22:00:17
    assert street.run().quiet == 1
    street.at = NOON + 20 * 3600 - 1  # 07:59:59
    street.run()
    assert provider.sent == []
    street.at += 1
    street.run()
    assert len(provider.sent) == 1


def test_a_customer_gets_so_many_messages_a_day_but_is_always_told_of_a_cut(
    street: Any, provider: Any, settings: Any
) -> None:
    few = msgspec.structs.replace(settings, per_customer_per_day=1)
    street.contact()
    for number in (1, 2, 3):
        street.raise_notice(number)
    assert street.run(few).limited == 2
    assert [sent["text"].count("URGENT") for sent in provider.sent] == [1]
    street.at += 86_400
    street.run(few)
    assert len(provider.sent) == 2


def test_so_many_messages_leave_in_a_minute(street: Any, provider: Any, settings: Any) -> None:
    slow = msgspec.structs.replace(settings, per_minute=1)
    for account in ("A01", "A02"):
        street.contact(account=account)
        street.raise_notice(account=account)
    assert street.run(slow).limited == 1
    street.at += 60
    street.run(slow)
    assert len(provider.sent) == 2


def test_a_webhook_is_signed_and_names_the_notice(street: Any, provider: Any) -> None:
    street.contact("webhook", provider.url)
    street.raise_notice()
    street.run()
    ((_command, _path, headers, body),) = provider.requests
    signed = signature(b"between us", int(headers["X-Wattgate-Timestamp"]), body)
    assert headers["X-Wattgate-Signature"] == signed
    said = json.loads(body)
    assert said["id"].startswith("notice-")
    assert (said["record"]["gateway"], said["record"]["live_balance_nano"]) == ("gw-1", -1_230_000_001)


def test_a_redirect_is_not_followed(street: Any, provider: Any) -> None:
    street.contact("webhook", provider.url)
    street.raise_notice()
    provider.answers = [(302, {})]
    street.run()
    assert len(provider.requests) == 1
    assert state_of(street) == "failed"


@pytest.mark.parametrize(
    ("recipient", "data", "state"),
    [
        (["550 no such user"], [], State.FAILED),
        (["451 come back"], [], State.WAITING),
        ([], ["452 full"], State.WAITING),
        ([], ["554 no"], State.FAILED),
        ([], [""], State.IN_DOUBT),
    ],
)
def test_a_mail_server_is_believed_by_its_reply_codes(
    street: Any, mailbox: Any, recipient: list[str], data: list[str], state: State
) -> None:
    street.contact("email", "someone@example.org")
    street.raise_notice()
    mailbox.recipient_answers, mailbox.data_answers = list(recipient), list(data)
    street.run()
    assert state_of(street) == state.value


def test_a_mail_server_that_cannot_be_trusted_gets_no_password(street: Any, settings: Any, mailbox: Any) -> None:
    street.contact("email", "someone@example.org")
    street.raise_notice()
    stranger = msgspec.structs.replace(settings.email, ca_file=None)
    street.run(msgspec.structs.replace(settings, email=stranger))
    assert outcomes(street) == [("email", "later")]
    assert mailbox.logins == []
    street.at += 60
    street.run()
    assert mailbox.logins == [b"wattgate"]
    assert len(mailbox.mails) == 1
