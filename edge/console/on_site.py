"""What a person does at the meter: pressing the key of a supply that is ready, and saying that a notice was shown.

One page lists what waits for somebody, one form for each; the record names whoever signs with name or badge. The
core decides: a key press reconnects nobody who has not paid. Post, redirect, get. Works without scripts.
"""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.agent.snapshot import AccountView, NoticeView, StreetSnapshot
from edge.console.console import Console, console_of
from edge.console.pages import starting
from edge.console.voucher import RecentAnswers
from edge.ports import DoorAnswer

READY = "ready_for_reconnection"
PERSON_CHARACTERS_MAX = 64
_DIGITS_MAX = 15


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one account waits for: somebody at its key, notices that nobody has confirmed."""

    account: AccountView
    key: bool
    notices: tuple[NoticeView, ...]


def waiting(snapshot: StreetSnapshot, account_id: str = "") -> list[Waiting]:
    """Every account that waits for somebody on site, by position; only the one if one is named."""
    found = []
    for view in sorted(snapshot.accounts, key=lambda view: view.position):
        open_notices = tuple(notice for notice in view.notices if notice.receipt_at is None)
        ready = view.control_state == READY
        if (ready or open_notices) and account_id in ("", view.account_id):
            found.append(Waiting(view, ready, open_notices))
    return found


async def on_site_form(request: Request) -> Response:
    """What waits for somebody, with a form for each; `?account=` leaves one account."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    chosen = request.query_params.get("account", "")
    return console.form_page(request, "on_site.html", waiting=waiting(snapshot, chosen))


async def do_on_site(request: Request) -> Response:
    """Hands it to the door with the person's name, keeps the answer, and sends the browser there."""
    console = console_of(request)
    answer = await _ask(console, await console.guard.read(request))
    answers: RecentAnswers = request.app.state.on_site_answers
    return RedirectResponse(f"/on-site/{answers.keep(answer)}", 303)


async def _ask(console: Console, fields: dict[str, str]) -> DoorAnswer:
    account_id, person = fields.get("account", ""), fields.get("person", "").strip()
    if not person or len(person) > PERSON_CHARACTERS_MAX or not person.isprintable():
        return DoorAnswer(False, "no_person", {"account": account_id})
    if "number" not in fields:
        return await console.door.press_key(account_id, person)
    number, raised_at = (fields.get(name, "") for name in ("number", "raised_at"))
    if not all(text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX for text in (number, raised_at)):
        return DoorAnswer(False, "no_notice", {"account": account_id})
    return await console.door.confirm_notice(account_id, int(number), int(raised_at), person)


async def on_site_answer(request: Request) -> Response:
    """What happened, or why not."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    answers: RecentAnswers = request.app.state.on_site_answers
    answer = answers.find(request.path_params["answer_id"])
    if answer is None:
        return console.page(request, "message.html", 404, code="answer_forgotten", retry=False)
    account_id = str(answer.params.get("account", ""))
    account = next((view for view in snapshot.accounts if view.account_id == account_id), None)
    return console.page(request, "on_site_answer.html", answer=answer, account=account)
