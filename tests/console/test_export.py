"""The event log filtered by kind, and as a file."""

import ast
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

import edge.core
from edge.console.kinds import KINDS, OTHER, is_of_kind, known_kind
from edge.console.language import load_languages


def rows_of(world: Any, query: str = "") -> list[dict[str, str]]:
    text = world.get(f"/events/export/csv{query}").content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def records_of(world: Any, query: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in world.get(f"/events/export/json{query}").text.splitlines()]


def test_both_files_hold_the_whole_log_newest_first(world: Any) -> None:
    records, rows = records_of(world), rows_of(world)
    assert len(records) > world.settings.events_per_page
    assert [int(row["order"]) for row in rows] == [record["order"] for record in records]
    assert [record["order"] for record in records] == sorted((one["order"] for one in records), reverse=True)
    assert json.loads(rows[-1]["record"]) == records[-1]


def test_a_file_holds_what_the_filter_leaves(world: Any) -> None:
    records = records_of(world, "?account=A-1002&kind=notices")
    assert {record["account"] for record in records} == {"A-1002"}
    assert {record["type"] for record in records} == {"NoticeRaised", "NoticeDelivered"}


def test_times_of_a_file_are_given_as_seconds_and_on_site(world: Any) -> None:
    (row,) = rows_of(world, "?kind=orders")
    assert (row["at"], row["local_time"]) == ("1785736792", "2026-08-03 13:59:52")
    assert row["text"]


def test_a_file_is_saved_and_not_shown(world: Any) -> None:
    for wanted, ending in (("csv", "csv"), ("json", "jsonl")):
        answer = world.get(f"/events/export/{wanted}")
        assert answer.headers["content-disposition"] == f'attachment; filename="events-18402.{ending}"'
    assert world.get("/events/export/exe").status_code == 404


def test_a_cell_is_never_a_formula(world: Any) -> None:
    async def hostile(count_max: int, before_order: int | None = None) -> list[dict[str, Any]]:
        return [{"type": "=HYPERLINK(1)", "at": 0, "account": "@A", "order": 1, "stream": "+x", "seq": 1}]

    world.ledger.event_records = hostile
    (row,) = rows_of(world)
    assert (row["type"], row["account"], row["stream"]) == ("'=HYPERLINK(1)", "'@A", "'+x")


def test_an_export_asks_in_batches_and_ends(world: Any) -> None:
    asked: list[tuple[int, int | None]] = []

    async def endless(count_max: int, before_order: int | None = None) -> list[dict[str, Any]]:
        asked.append((count_max, before_order))
        last = (1 << 40) if before_order is None else before_order
        return [{"type": "X", "at": 0, "order": last - place} for place in range(1, count_max + 1)]

    world.ledger.event_records = endless
    orders = [record["order"] for record in records_of(world)]
    assert len(orders) == len(set(orders)) == 20_000
    assert max(count for count, _ in asked) <= 200


def test_the_page_shows_one_kind_and_keeps_it_from_page_to_page(make_world: Any, accounts: Any) -> None:
    world = make_world(events_per_page=2)
    world.publish(accounts)
    page = world.get("/events?kind=notices").text
    assert page.count('<span class="when">') == 2
    assert "Notice 2" in page
    assert "kind=notices&amp;before=" in page
    assert "/events/export/csv?account=&amp;kind=notices" in page
    assert world.get("/events?kind=nonsense").text.count('<span class="when">') == 2


def test_every_kind_has_words_and_no_type_stands_twice() -> None:
    for language in load_languages().values():
        assert [code for code in (*KINDS, OTHER) if not language.knows("kind", code)] == []
    names = [name for kind in KINDS.values() for name in kind]
    assert len(names) == len(set(names))


def test_kinds_hold_every_event_that_reaches_the_log_and_nothing_else() -> None:
    classes = []
    for name in ("events.py", "token.py"):
        tree = ast.parse((Path(edge.core.__path__[0]) / name).read_text("utf-8"))
        classes += [node for node in tree.body if isinstance(node, ast.ClassDef)]
    streams = {node.name: stream for node in classes if (stream := _stream(node)) is not None}
    told = {name for name, stream in streams.items() if stream != "rdg"}
    assert len(told) > 40
    assert {name for kind in KINDS.values() for name in kind} == told


def _stream(node: ast.ClassDef) -> object:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == "stream" and part.value is not None:
            return ast.literal_eval(part.value)
    return None


@pytest.mark.parametrize(
    ("asked", "kind"), [(None, ""), ("", ""), ("volcano", ""), ("other", "other"), ("supply", "supply")]
)
def test_an_unknown_kind_is_no_filter(asked: str | None, kind: str) -> None:
    assert known_kind(asked) == kind
    assert is_of_kind({"type": "Volcano"}, kind) is (kind in ("", "other"))
