"""Typing a token: a form for the accounts whose meters take them, the one door, and a page with its answer.

The digits go to the door as typed; blanks and dashes are its decoder's business. Post, redirect,
get: a reload of the answer enters nothing again. Waits are seconds, amounts Wh or seconds.
"""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.agent.snapshot import AccountView, StreetSnapshot
from edge.console.console import console_of
from edge.console.formats import NANO_PER, Formats, formats_for
from edge.console.pages import starting
from edge.console.voucher import RecentAnswers
from edge.ports import DoorAnswer

_GROUP = 4
_SHOWN_MAX = 60  # characters of what was typed: no token has more


async def token_form(request: Request) -> Response:
    """The form; `?account=` chooses one of the accounts that have a decoder."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    accounts = [view for view in snapshot.accounts if view.account_id in console.settings.token_accounts]
    accounts.sort(key=lambda view: view.position)
    chosen = request.query_params.get("account", "")
    return console.form_page(request, "token.html", accounts=accounts, chosen=chosen)


async def enter_token(request: Request) -> Response:
    """Hands the digits to the door, keeps its answer, and sends the browser there."""
    console = console_of(request)
    fields = await console.guard.read(request)
    account_id, text = fields.get("account", ""), fields.get("digits", "").strip()
    if text:
        answer = await console.door.enter_token(account_id, text, console.settings.actor)
    else:
        answer = DoorAnswer(accepted=False, code="empty", params={"account": account_id})
    answer = replace(answer, params={**answer.params, "typed": grouped(text)})
    answers: RecentAnswers = request.app.state.token_answers
    return RedirectResponse(f"/token/{answers.keep(answer)}", 303)


async def token_answer(request: Request) -> Response:
    """What happened, in plain words: the reason, the new balance, and how long to wait."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    answers: RecentAnswers = request.app.state.token_answers
    answer = answers.find(request.path_params["answer_id"])
    if answer is None:
        return console.page(request, "message.html", 404, code="answer_forgotten", retry=False)
    formats = formats_for(snapshot, console.language_of(request))
    account = _account(snapshot, answer)
    return console.page(
        request,
        "token_answer.html",
        answer=answer,
        account=account,
        amount=_amount(answer, formats),
        balance=_balance(answer, account, formats),
        wait_minutes=-(-int(answer.params.get("wait_s", 0)) // 60),
    )


def grouped(text: str) -> str:
    """What was typed, in groups of four, for comparing it with the print."""
    digits = "".join(character for character in text[:_SHOWN_MAX] if character.isalnum())
    return " ".join(digits[start : start + _GROUP] for start in range(0, len(digits), _GROUP))


def _account(snapshot: StreetSnapshot, answer: DoorAnswer) -> AccountView | None:
    account_id = str(answer.params.get("account", ""))
    return next((view for view in snapshot.accounts if view.account_id == account_id), None)


def _amount(answer: DoorAnswer, formats: Formats) -> str | None:
    amount, unit = answer.params.get("amount"), str(answer.params.get("unit", ""))
    return formats.of(unit).credit(amount) if isinstance(amount, int) and unit in NANO_PER else None


def _balance(answer: DoorAnswer, account: AccountView | None, formats: Formats) -> str | None:
    """As of the answer, else as of now: whoever typed a spent token again wants to see that it counted."""
    nano = answer.params.get("live_balance_nano", account.live_balance_nano if account else None)
    if not isinstance(nano, int):
        return None
    return formats.of(str(answer.params.get("unit", "money"))).with_unit(nano)
