"""An event loop whose timers are kept to the tenth of a millisecond, for lines that are to be used to their limit.

asyncio's loop on Linux waits in epoll, which counts whole milliseconds and rounds up: a gap of 1.75 ms takes 2, one of
4.01 ms takes 5. At 115,200 baud that is a twentieth of the line. select(2) counts microseconds, and an epoll descriptor
is itself a descriptor that can be waited for. So a short wait is done in select, a long one in epoll as ever. Costs one
system call for each short wait. Seconds.
"""

import asyncio
import select
import selectors

# Longer waits are nobody's gap; a millisecond does not matter to them.
_EXACT_S_MAX = 0.02


def line_loop() -> asyncio.AbstractEventLoop:
    """A `loop_factory` for asyncio.Runner. Where there is no epoll, asyncio's own loop."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(ExactSelector())


class ExactSelector(selectors.EpollSelector):
    """epoll, with short timeouts to the microsecond."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < _EXACT_S_MAX:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0
        return super().select(timeout)
