"""The test build of sandbox-helper's programs, and the board by which a test stops them at a
fault point (sandbox-helper/fault.h, fault_points.c)."""

import contextlib
import mmap
import pathlib
import shutil
import struct
import tempfile

from harness import settings, watch

PROGRAMS = settings.BUILD / "tests" / "faults"
NAMES = ("sandbox-helper", "sandbox-stage", "sandbox-packer")
IDLE, RECORD, ARMED, HELD = range(4)
NAME, NAMES_MAX = 96, 8192
STATE, COUNT, POINT, TABLE = 0, 4, 8, 8 + NAME


class Board:
    """The programs in a folder of their own, with the file that they share with us."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sbfaults-", dir="/tmp"))
        self.folder.chmod(0o755)
        for name in NAMES:
            assert (PROGRAMS / name).is_file(), f"{name} has no test build: make test-programs"
            shutil.copy2(PROGRAMS / name, self.folder)
        path = self.folder / "faults"
        path.write_bytes(bytes(TABLE + NAME * NAMES_MAX))
        path.chmod(0o666)
        with open(path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), 0)

    def close(self):
        self.memory.close()
        shutil.rmtree(self.folder)

    def _word(self, at, value=None):
        if value is not None:
            self.memory[at:at + 4] = struct.pack("=I", value)
        return struct.unpack("=I", self.memory[at:at + 4])[0]

    def _text(self, at):
        return self.memory[at:at + NAME].split(b"\0", 1)[0].decode()

    @contextlib.contextmanager
    def record(self):
        """with board.record() as passed: ... fills the list with the points in their order."""
        passed = []
        self._word(COUNT, 0)
        self._word(STATE, RECORD)
        yield passed
        self._word(STATE, IDLE)
        count = self._word(COUNT)
        assert count < NAMES_MAX, "the board is full"
        passed += dict.fromkeys(self._text(TABLE + NAME * i) for i in range(count))

    def arm(self, point):
        self.memory[POINT:POINT + NAME] = point.encode().ljust(NAME, b"\0")
        self._word(STATE, ARMED)

    def reached(self, timeout=10):
        watch.wait_for(lambda: self._word(STATE) == HELD, timeout * settings.SLOW,
                       f"nobody comes to {self._text(POINT)!r}", 0.001)

    def release(self):
        self._word(STATE, IDLE)
