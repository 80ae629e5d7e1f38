"""A gateway and its processes counted: what must be the same before and after, and the memory
of each program.  Soaks look at it at rest."""

import collections
import os
import pathlib
import time

from . import settings, watch


def programs(gw):
    """{name: pid} of what lives as long as the gateway."""
    helper = gw.helper.pid
    table = watch.processes()
    found = {"sandbox-helper": helper}
    for pid, (name, _, parent) in table.items():
        if parent == helper and name.startswith("sandbox-"):
            found[name] = pid
    for i, pid in enumerate(sorted(gw.workers())):
        found[f"nginx worker {i}"] = pid
    return found


def namespaces(pids):
    """How many there are of each kind, as far as we may look."""
    kinds = collections.defaultdict(set)
    for pid in pids:
        try:
            for path in pathlib.Path(f"/proc/{pid}/ns").iterdir():
                kinds[path.name].add(path.readlink())
        except (PermissionError, FileNotFoundError):
            continue
    return {kind: len(found) for kind, found in sorted(kinds.items())}


def look(gw):
    """(what must be the same, {program: bytes: resident, proportional, and of that not a file's})"""
    family = watch.descendants(gw.helper.pid)
    same, memory = {}, {}
    for name, pid in programs(gw).items():
        try:
            same[f"{name}: descriptors"] = watch.fd_count(pid)
            same[f"{name}: mounts"] = watch.mount_count(pid)
            memory[name] = watch.rss(pid), watch.pss(pid), watch.pss(pid, "_Anon")
        except PermissionError:  # stage and packer are not dumpable: only root may look into them
            assert not settings.ROOT
    for kind, count in namespaces(family).items():
        same[f"namespaces: {kind}"] = count
    same["processes below the helper"] = len(family)
    same["control groups"] = len({os.path.basename(g) for g in watch.cgroups(f"run-{gw.helper.pid}-")})
    for folder in ("helper/tmp", "artifacts/tmp", "store/tmp", "tmp"):
        path = gw.state / folder
        same[f"files in {folder}"] = sum(len(files) for _, _, files in os.walk(path))
    return same, memory


def at_rest(gw):
    gw.session.close()
    watch.wait_for(lambda: gw.get("/ready").json()["helper"]["running"] == 0, 30 * settings.SLOW, "runs go on")
    gw.session.close()

    def steady():
        try:
            first = look(gw)
            time.sleep(0.3)
            return first if look(gw)[0] == first[0] else None
        except FileNotFoundError:  # a process that ended meanwhile
            return None
    return watch.wait_for(steady, 30 * settings.SLOW, "it does not come to rest")


def back_to(gw, before):
    """Waits until all is as it was at rest, and fails with what is not: on a busy machine a sandbox that
    waits is not replaced within a blink."""
    def changed():
        now = at_rest(gw)[0]
        return {key: (value, now.get(key)) for key, value in before.items() if now.get(key) != value} | {
            key: (None, now[key]) for key in now.keys() - before.keys()}
    if not watch.becomes(lambda: not changed(), 20 * settings.SLOW):
        raise AssertionError(f"before and after: {changed()}")


def total(memory, kind):
    """Without pages of files: the store grows by a record a run, and nginx has it mapped."""
    return sum(anonymous for name, (_, _, anonymous) in memory.items() if name.startswith(kind))
