"""The card: the real journal's files in a folder, what a power cut leaves of them, and copies of it.

A disk that syncs keeps every commit. One that was told not to (`synchronous=OFF`) says it has them and
loses the last few at a power cut. That SQLite itself keeps its promise at every write of the file is
proved elsewhere, byte by byte; here whole transactions are there or not. The anchor is the companion
MCU's: it survives whatever happens to the card.
"""

import shutil
import tempfile
from collections import deque
from pathlib import Path

from edge.ports import AnchorState, StoredRecord

MEMORY_FOLDER = Path("/dev/shm")
LAGGING_COMMITS = 3
SYNCED = 2  # FULL; the product asks for EXTRA


class Card:
    """A folder with a journal in it."""

    def __init__(self) -> None:
        place = str(MEMORY_FOLDER) if MEMORY_FOLDER.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="wattgate-world-", dir=place)
        self.path = Path(self._folder.name) / "card"
        self.path.mkdir()
        self.syncs = True
        self._lagging: deque[tuple[Path, list[StoredRecord]]] = deque()
        self._copies = 0

    def close(self) -> None:
        self._folder.cleanup()

    def copy(self) -> Path:
        """An image of the card as it is now."""
        self._copies += 1
        image = Path(self._folder.name) / f"copy-{self._copies}"
        shutil.copytree(self.path, image)
        return image

    def put_in(self, image: Path) -> None:
        """The card is now what the image says."""
        shutil.rmtree(self.path)
        shutil.copytree(image, self.path)

    def committed(self, records: list[StoredRecord]) -> None:
        """A commit: a disk that does not sync remembers what it really has."""
        if self.syncs:
            return
        self._lagging.append((self.copy(), records))
        if len(self._lagging) > LAGGING_COMMITS:
            shutil.rmtree(self._lagging.popleft()[0])

    def cut_power(self) -> list[StoredRecord]:
        """The records that are gone although their commit had returned."""
        if len(self._lagging) < 2:
            return []
        (image, _), *later = self._lagging
        self.put_in(image)
        self._lagging.clear()
        return [record for _, records in later for record in records]


class WorldAnchor:
    """Implements `edge.ports.Anchor`: one state, kept outside the card."""

    def __init__(self) -> None:
        self.state: AnchorState | None = None
        self.works = True  # False: the power goes between the commit and this

    def read(self) -> AnchorState | None:
        return self.state

    def write(self, state: AnchorState) -> None:
        if self.works:
            self.state = state
