"""Selecting the emergency credit: a page that says what it costs, the one door, and a page with its answer.

A customer does it at the kiosk, or a technician for him. Post, redirect, get: a reload selects nothing
again. Works without scripts.
"""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.console.console import console_of
from edge.console.formats import formats_for
from edge.console.pages import starting
from edge.console.voucher import RecentAnswers
from edge.ports import DoorAnswer

SELECTABLE = "selectable"  # COSEM credit_status of the emergency credit


async def emergency_form(request: Request) -> Response:
    """The accounts it is offered to, with the amount; `?account=` chooses one."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    offered = [view for view in snapshot.accounts if view.emergency and view.emergency.status == SELECTABLE]
    offered.sort(key=lambda view: view.position)
    chosen = request.query_params.get("account", "")
    return console.form_page(request, "emergency.html", accounts=offered, chosen=chosen)


async def select_emergency(request: Request) -> Response:
    """Hands the wish to the door, keeps its answer, and sends the browser there."""
    console = console_of(request)
    fields = await console.guard.read(request)
    account_id = fields.get("account", "")
    if account_id:
        answer = await console.door.select_emergency_credit(account_id, console.settings.actor)
    else:
        answer = DoorAnswer(accepted=False, code="unknown_account", params={})
    answers: RecentAnswers = request.app.state.emergency_answers
    return RedirectResponse(f"/emergency/{answers.keep(answer)}", 303)


async def emergency_answer(request: Request) -> Response:
    """What happened: how much may be drawn, or why it is not offered."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    answers: RecentAnswers = request.app.state.emergency_answers
    answer = answers.find(request.path_params["answer_id"])
    if answer is None:
        return console.page(request, "message.html", 404, code="answer_forgotten", retry=False)
    unit = str(answer.params.get("unit", "money"))
    formats = formats_for(snapshot, console.language_of(request)).of(unit)
    account_id = str(answer.params.get("account", ""))
    return console.page(
        request,
        "emergency_answer.html",
        answer=answer,
        account=next((view for view in snapshot.accounts if view.account_id == account_id), None),
        amounts={
            name: formats.with_unit(answer.params[name])
            for name in ("limit_nano", "live_balance_nano")
            if isinstance(answer.params.get(name), int)
        },
    )
