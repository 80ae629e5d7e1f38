"""What a power loss would leave of a recorded run (power_log.c).

A disk may lose whatever was not synced, and keep any of it: of a file's data only fsync of the file
(or writing with O_DSYNC) makes sure, of a folder's entries only fsync of the folder.  So from the notes
up to some moment Disk makes the state in which everything that was synced is there and of the
rest nothing, everything, or a random part, data in pieces of a sector or a page.  This is harsher than
journaling file systems are: what it does not break, they don't.
"""

import copy
import dataclasses
import os
import pathlib
import random
import struct

NEW, ENTRY, DATA, SIZE, SYNC, ACK = range(1, 7)
HEAD, NOTE = struct.Struct("<QQQ"), struct.Struct("<IIQQII")

NOTHING, EVERYTHING, SECTORS, PAGES = "nothing", "everything", "random sectors", "random pages"
MODES = (NOTHING, EVERYTHING, SECTORS, PAGES)


@dataclasses.dataclass
class Note:
    at: int
    kind: int
    a: int
    b: int
    flag: int
    data: bytes


def read_log(path):
    """The notes, in their order."""
    notes = []
    with open(path, "rb") as f:
        end, size, _ = HEAD.unpack(f.read(HEAD.size))
        assert HEAD.size < end <= size, f"the log is too small: {end} of {size} bytes"
        log, at = f.read(end - HEAD.size), 0
    while at < len(log):
        kind, length, a, b, ready, flag = NOTE.unpack_from(log, at)
        if not ready:  # of a process that was killed in between; nothing tells how long it is
            raise AssertionError(f"a note at {at} was not finished")
        start = at + NOTE.size
        notes.append(Note(at + HEAD.size, kind, a, b, flag, log[start:start + length]))
        at = (start + length + 7) & ~7
    return notes


class File:
    def __init__(self, data=b""):
        self.data = bytearray(data)  # that are safe
        self.pending = []            # (where in the log, offset or None for a size, bytes or size)

    def put(self, offset, data):
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset:offset + len(data)] = data

    def apply(self, change):
        _, offset, data = change
        if offset is not None:
            self.put(offset, data)
        elif data < len(self.data):
            del self.data[data:]
        else:
            self.data.extend(bytes(data - len(self.data)))

    def sync(self, before):
        while self.pending and self.pending[0][0] < before:
            self.apply(self.pending.pop(0))

    def write_through(self, at, offset, data):
        """O_DSYNC: this is safe, and so is what was below it."""
        end, rest = offset + len(data), []
        for change in self.pending:
            _, o, d = change
            if o is not None and (o >= end or o + len(d) <= offset):
                rest.append(change)
            else:
                self.apply(change)
        self.pending = rest
        self.put(offset, data)

    def copy(self):
        twin = File(self.data)
        twin.pending = list(self.pending)
        return twin

    def left(self, mode, rng):
        """Its bytes after the power loss."""
        if mode == NOTHING or not self.pending:
            return bytes(self.data)
        twin = self.copy()
        piece = 512 if mode == SECTORS else 4096
        for at, offset, data in self.pending:
            if mode == EVERYTHING:
                twin.apply((at, offset, data))
            elif offset is None:
                if rng.random() < 0.5:
                    twin.apply((at, offset, data))
            else:
                start = 0
                while start < len(data):  # pieces lie where the disk's do
                    stop = min(len(data), (offset + start) // piece * piece + piece - offset)
                    if rng.random() < 0.5:
                        twin.put(offset + start, data[start:stop])
                    start = stop
        return bytes(twin.data)


@dataclasses.dataclass(eq=False)
class Change:
    """Of a folder: a name gets a thing, or loses it."""
    at: int
    folder: "Folder"
    name: str
    thing: object           # None: the name goes
    moved: "Change" = None  # it goes by a rename, of which this is the other half
    safe: bool = False

    def apply(self, entries):
        if self.thing is None:
            entries.pop(self.name, None)
        else:
            entries[self.name] = self.thing

    def make_safe(self):
        """A rename is one change: its halves may be lost one by one, but never the thing."""
        if self.moved and not self.moved.safe:
            self.moved.make_safe()
        self.safe = True
        self.folder.pending.remove(self)
        self.apply(self.folder.entries)

    def kept(self, chosen):
        """Is it there after the power loss?  chosen: the random ones."""
        return self.safe or (self in chosen and (self.moved is None or self.moved.kept(chosen)))


class Folder:
    def __init__(self):
        self.entries, self.pending = {}, []  # name -> thing; changes

    def sync(self, before):
        for change in [c for c in self.pending if c.at < before]:
            if not change.safe:
                change.make_safe()

    def left(self, chosen):
        entries = dict(self.entries)
        for change in self.pending:
            if change.kept(chosen):
                change.apply(entries)
        return entries


class Disk:
    """The files and folders below one folder, as they were and as the notes change them."""

    def __init__(self, root):
        self.things = {}  # by inode: what has it now
        self.named = {}   # the change that gave a thing its last name
        self.root = self._scan(pathlib.Path(root))
        self.acks = []
        self.start = copy.deepcopy((self.things, self.root))

    def before(self):
        """The disk as it was before the first note."""
        disk = copy.copy(self)
        disk.things, disk.root = copy.deepcopy(self.start)
        disk.named, disk.acks = {}, []
        return disk

    def _scan(self, path):
        if path.is_dir() and not path.is_symlink():
            thing = Folder()
            thing.entries = {p.name: self._scan(p) for p in path.iterdir()}
        else:
            thing = File(path.read_bytes() if path.is_file() else b"")
        self.things[path.lstat().st_ino] = thing
        return thing

    def follow(self, note):
        thing = self.things.get(note.a)
        if note.kind == NEW:
            self.things[note.a] = Folder() if note.b else File()
        elif note.kind == ACK:
            self.acks.append(note.data.decode())
        elif note.kind == ENTRY:
            if isinstance(thing, Folder):
                self._change(thing, note)
        elif thing is None:
            pass  # a file that was made out of our sight, below folders that are not looked at
        elif note.kind == SYNC:
            thing.sync(note.b)
        elif note.kind == SIZE:
            thing.pending.append((note.at, None, note.b))
        elif note.flag:
            thing.write_through(note.at, note.b, note.data)
        else:
            thing.pending.append((note.at, note.b, note.data))

    def _change(self, folder, note):
        name, _, inode = note.data.decode().partition("\0")
        child = self.things.get(note.b) if note.b else None
        if note.b and child is None:
            return  # made out of our sight
        moved = self.named.get(self.things.get(int(inode))) if inode else None
        change = Change(note.at, folder, name, child, moved)
        folder.pending.append(change)
        if child is not None:
            self.named[child] = change

    def leave(self, to, mode, seed, wanted):
        """Writes what is left into a folder; wanted(path) says which paths are."""
        rng = random.Random(seed)
        chosen = {change for folder in {id(t): t for t in self.things.values()}.values() if isinstance(folder, Folder)
                  for change in folder.pending
                  if mode == EVERYTHING or (mode != NOTHING and rng.random() < 0.5)}

        def write(thing, path, name):
            if not wanted(name):
                return
            if isinstance(thing, File):
                path.write_bytes(thing.left(mode, rng))
                return
            path.mkdir(exist_ok=True)
            for leaf, child in sorted(thing.left(chosen).items(), key=lambda item: item[0]):
                write(child, path / leaf, f"{name}/{leaf}" if name else leaf)
        write(self.root, pathlib.Path(to), "")


def make_log(path, size):
    """An empty log of so many bytes at most."""
    with open(path, "wb") as f:
        f.write(HEAD.pack(HEAD.size, 0, 0))
        f.truncate(size)
    os.chmod(path, 0o666)
