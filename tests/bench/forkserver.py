#!/usr/bin/python3
"""forkserver.py COUNT PAUSE_MS: Python's children of a fork server, with no sandbox at all.

An interpreter that has imported what a zygote has forks a child, which waits; PAUSE_MS later it is told to go, runs a line
that does nothing, and is waited for.  Prints a line of JSON: microseconds from the word to the end, and CPU time of all.
"""

import base64, collections, csv, datetime, gc, hashlib, itertools, json, math, os, pathlib, re, statistics  # noqa: E401,F401
import resource
import sys
import time
import urllib.parse  # noqa: F401


def child(pipe):
    os.read(pipe, 1)
    exec(compile("pass", "main.py", "exec"), {"__name__": "__main__"})  # pylint: disable=exec-used
    sys.stdout.flush()
    os._exit(0)


def one(pause):
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writes)
        child(reads)
    os.close(reads)
    time.sleep(pause)
    begun = time.monotonic_ns()
    os.write(writes, b"g")
    if os.waitpid(pid, 0)[1] != 0:
        raise SystemExit("forkserver: a child failed")
    os.close(writes)
    return (time.monotonic_ns() - begun) / 1000


def cpu():
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def main():
    count, pause = int(sys.argv[1]), float(sys.argv[2]) / 1000
    gc.collect()
    gc.freeze()
    before = cpu()
    us = sorted(one(pause) for _ in range(count))
    print(json.dumps({"us": us, "count": count, "p50_us": us[count // 2], "cpu_us": (cpu() - before) * 1e6 / count}))


main()
