"""What will happen when: actions at true times, in order. Milliseconds of true time."""

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Script:
    """A heap of actions. Two at one time happen in the order they were written down."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Action]] = []
        self._order = count()

    def at(self, true_ms: int, action: Action) -> None:
        """Writes down an action."""
        heapq.heappush(self._heap, (true_ms, next(self._order), action))

    def next_ms(self) -> int | None:
        """When the next action is due."""
        return self._heap[0][0] if self._heap else None

    def run_due(self, true_ms: int) -> int:
        """Does what is due; returns how many actions that were."""
        done = 0
        while self._heap and self._heap[0][0] <= true_ms:
            heapq.heappop(self._heap)[2]()
            done += 1
        return done
