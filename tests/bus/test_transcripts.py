"""Conversations on the bus, checked byte by byte. The form of the files: tests/transcripts/README.md."""

from pathlib import Path

import pytest

from edge.bus.frame import FRAMINGS, Framing, Request
from edge.bus.transaction import Outcome, Timing, Transaction

TRANSCRIPTS = sorted((Path(__file__).resolve().parent.parent / "transcripts").glob("*.txt"))
TIMING = Timing(gap_s=0.0, byte_s=0.0, response_timeout_s=0.3, drain_silence_s=0.55, drain_s_max=5.0)


class Player:
    """Plays one file against a Transaction."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.transaction = Transaction(framing, TIMING)
        self.now = 0.0
        self.outcome: Outcome | None = None
        self.played = 0

    def play(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        {
            "?": self.ask,
            ">>": self.expect_sent,
            "<<": self.receive,
            "..": self.wait,
            "=": self.expect_words,
            "!": self.expect_reason,
        }[mark](rest)
        self.played += 1

    def ask(self, text: str) -> None:
        self.outcome = None
        self.transaction.submit(self.request(*text.split()), self.now)

    def request(self, kind: str, device_id: str, function_code: str, address: str, *rest: str) -> Request:
        place = (int(device_id), int(function_code), int(address, 0))
        if kind == "read":
            return self.framing.read(*place, int(rest[0]))
        return self.framing.write(*place, tuple(int(word, 16) for word in rest))

    def expect_sent(self, text: str) -> None:
        assert self.transaction.outgoing().hex(" ").upper() == text

    def receive(self, text: str) -> None:
        self.outcome = self.transaction.receive(bytes.fromhex(text), self.now)

    def wait(self, text: str) -> None:
        self.now += int(text) / 1000
        self.outcome = self.transaction.handle_timer(self.now)

    def expect_words(self, text: str) -> None:
        assert self.outcome is not None
        assert self.outcome.reason is None
        expected = () if text == "done" else tuple(int(word, 16) for word in text.split())
        assert self.outcome.words == expected

    def expect_reason(self, text: str) -> None:
        assert self.outcome is not None
        assert (self.outcome.reason, self.outcome.words) == (text, ())


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_conversation_goes_byte_by_byte_as_written(path: Path) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    player = Player(FRAMINGS[lines[0]])
    for line in lines[1:]:
        player.play(line)
    assert player.played >= 4
    assert player.transaction.idle
