"""A file system on a device of its own, whose written bytes the kernel counts: what flash would have to take.

/proc's write_bytes counts whole folios on some kernels, so it is not used. Needs root (mount) and a loop device.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE_BYTES = 256 << 20
SECTOR_BYTES = 512  # of /sys/block/*/stat, whatever the device has
_WRITTEN = 6  # column of the sectors written; the kernel's Documentation/block/stat.rst


class NoDevice(OSError):
    """This user or this machine cannot mount one; the text says why."""


class Device:
    """A mounted device."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self._stat = folder, Path(f"/sys/block/{name}/stat")

    def written_bytes(self) -> int:
        """Bytes given to the device since it exists; what is still in memory is written first."""
        subprocess.run(["sync", "-f", str(self.folder)], check=True)
        return int(self._stat.read_text("ascii").split()[_WRITTEN]) * SECTOR_BYTES


@contextmanager
def device(folder: Path) -> Iterator[Device]:
    """An empty ext4 as a Raspberry Pi's is made, on a loop device. NoDevice where that cannot be."""
    if shutil.which("mkfs.ext4") is None:
        raise NoDevice("mkfs.ext4 is not here")
    image, place = folder / "flash.img", folder / "flash"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    # Tables written now and not in the background, where they would be counted.
    now = "lazy_itable_init=0,lazy_journal_init=0"
    _run("mkfs.ext4", "-q", "-F", "-E", now, str(image))
    _run("mount", "-o", "loop,noatime", str(image), str(place))
    try:
        for line in Path("/proc/mounts").read_text("utf-8").splitlines():
            source, where = line.split()[:2]
            if where == str(place):
                yield Device(place, Path(source).name)
                return
        raise NoDevice(f"{place} is not in /proc/mounts")
    finally:
        subprocess.run(["umount", str(place)], check=False)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoDevice(f"{command[0]}: {done.stderr.strip() or done.returncode}")
