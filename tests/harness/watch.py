"""What the host looks like: used before and after, so that a leak is seen where it would hurt."""

import ctypes
import os
import pathlib
import shutil
import threading
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of what we start become our children, so none can hide from leftovers()."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def stat_text(pid):
    """Asked for all processes many times a second: no more than three system calls."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            return os.read(fd, 4096).decode(errors="replace")
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):  # either of both calls, as it goes
        return None


def stat_fields(pid):
    """(comm, state, ppid) of a process, None when it is gone."""
    text = stat_text(pid)
    if not text:
        return None
    comm, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
    return comm, rest[0], int(rest[1])


def started(pid):
    """When a process began, in the kernel's ticks: what tells it from another with its pid.  None
    when it is gone."""
    text = stat_text(pid)
    return int(text[text.rindex(")") + 2:].split()[19]) if text else None


def processes():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields:
                found[int(name)] = fields
    return found


def descendants(pid, table=None):
    """Pids below pid, parents first."""
    table = table or processes()
    children = {}
    for child, (_, _, parent) in table.items():
        children.setdefault(parent, []).append(child)
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def children_named(pid, comm):
    """Direct and indirect children of pid whose name starts with comm (names have 15 bytes)."""
    table = processes()
    return [p for p in descendants(pid, table) if table[p][0].startswith(comm[:15])]


def alive(pid):
    fields = stat_fields(pid)
    return fields is not None and fields[1] not in "ZX"


def reap_orphans(known):
    """Collects dead children that nobody of us waits for (not those of subprocess in `known`)."""
    for pid, (_, state, parent) in processes().items():
        if parent == os.getpid() and state == "Z" and pid not in known:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


class Awake(threading.Thread):
    """Counts the seconds in which this process ran: a machine that stands still, or a test run that
    is stopped, gives what is waited for no time either."""
    TICK, MOST = 0.05, 0.5

    def __init__(self):
        super().__init__(daemon=True)
        self.counted = (0.0, time.monotonic())  # until when: replaced as a whole
        self.start()

    def run(self):
        while True:
            time.sleep(self.TICK)
            self.counted = (self.seconds(), time.monotonic())

    def seconds(self):
        counted, at = self.counted
        return counted + min(time.monotonic() - at, self.MOST)


def awake():
    """A clock as time.monotonic(), without the time in which this process stood still: for what may
    take so long at most."""
    if awake.counter is None or not awake.counter.is_alive():  # a forked child has no threads
        awake.counter = Awake()
    return awake.counter.seconds()


awake.counter = None


def becomes(check, timeout, interval=0.02):
    """Polls check() until it is true, for timeout seconds of awake() at most; what it said last."""
    end = awake() + timeout
    while True:
        late = awake() > end  # before the look: the last one is after the end
        value = check()
        if value or late:
            return value
        time.sleep(interval)


def wait_for(check, timeout, what, interval=0.02):
    """becomes(), and fails with `what` when it does not."""
    value = becomes(check, timeout, interval)
    if not value:
        raise AssertionError(f"timed out after {timeout} s: {what}")
    return value


def mounts():
    """Mount points of this namespace."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return {line.split(" ")[4] for line in lines}


def mount_count(pid):
    return len(pathlib.Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines())


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss(pid):
    """Resident memory in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def pss(pid, part=""):
    """Proportional set size in bytes, or a part of it ("_Anon": what no file backs); needs to be the
    process's user or root.  0 for a keeper: its memory is that of the process it is made for."""
    if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "sandbox-keeper":
        return 0
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"Pss{part}:"):
            return int(line.split()[1]) * 1024
    return 0


def remove_tree(folder):
    """Also what is read-only, as unpacked packages are; an ordinary user has to be told."""
    for root, _, _ in os.walk(folder):
        os.chmod(root, 0o700)
    shutil.rmtree(folder)


def tree(folder):
    """Relative paths of everything below folder; folders end in '/'."""
    folder = pathlib.Path(folder)
    found = set()
    for root, dirs, files in os.walk(folder):
        base = pathlib.Path(root).relative_to(folder)
        found |= {f"{base / d}/" for d in dirs} | {str(base / f) for f in files}
    return found


def cgroups(marker):
    """Control groups whose path holds the marker, in every hierarchy."""
    found = set()
    for root, dirs, _ in os.walk("/sys/fs/cgroup"):
        found |= {os.path.join(root, d) for d in dirs if marker in os.path.join(root, d)}
    return found
