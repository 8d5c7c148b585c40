"""Entering a signed voucher: a form, the one door, and a page that says what became of it.

The console mints nothing: it hands the text to the door and shows the door's answer. Post,
redirect, get: a reload of the answer enters nothing again.
"""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edge.console.console import console_of
from edge.console.formats import Formats, formats_for
from edge.console.pages import starting
from edge.console.words import value_in_words
from edge.ports import DoorAnswer

_ANSWERS_MAX = 64


@dataclass(slots=True)
class RecentAnswers:
    """The door's last answers, each under an address nobody can guess."""

    _answers: OrderedDict[str, DoorAnswer] = field(default_factory=OrderedDict)

    def keep(self, answer: DoorAnswer) -> str:
        """Remembers an answer and gives its id; the oldest is forgotten."""
        identifier = secrets.token_urlsafe(12)
        self._answers[identifier] = answer
        while len(self._answers) > _ANSWERS_MAX:
            self._answers.popitem(last=False)
        return identifier

    def find(self, identifier: str) -> DoorAnswer | None:
        """The answer, or None once it is forgotten."""
        return self._answers.get(identifier)


async def voucher_form(request: Request) -> Response:
    """The form."""
    console = console_of(request)
    if console.source.current is None:
        return starting(request)
    return console.form_page(request, "voucher.html")


async def enter_voucher(request: Request) -> Response:
    """Hands the text to the door, keeps its answer, and sends the browser there."""
    console = console_of(request)
    fields = await console.guard.read(request)
    text = fields.get("voucher", "").strip()
    if text:
        answer = await console.door.enter_voucher(text, console.settings.actor)
    else:
        answer = DoorAnswer(accepted=False, code="empty", params={})
    answers: RecentAnswers = request.app.state.answers
    return RedirectResponse(f"/voucher/{answers.keep(answer)}", 303)


async def voucher_answer(request: Request) -> Response:
    """What happened, in words and figures."""
    console = console_of(request)
    snapshot = console.source.current
    if snapshot is None:
        return starting(request)
    answers: RecentAnswers = request.app.state.answers
    answer = answers.find(request.path_params["answer_id"])
    if answer is None:
        return console.page(request, "message.html", 404, code="answer_forgotten", retry=False)
    account_id = str(answer.params.get("account", ""))
    account = next((view for view in snapshot.accounts if view.account_id == account_id), None)
    formats = formats_for(snapshot, console.language_of(request)).of(account.unit if account is not None else "money")
    facts = [(key, _fact(key, value, formats)) for key, value in answer.params.items()]
    return console.page(request, "answer.html", answer=answer, facts=facts, account=account)


def _fact(key: str, value: object, formats: Formats) -> str:
    if key.endswith("_nano") and isinstance(value, int):
        return formats.with_unit(value)
    text = value_in_words(key, value, formats)
    return f"{text} {formats.currency}" if key.endswith("_minor") else text
