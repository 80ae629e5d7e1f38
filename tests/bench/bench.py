#!/usr/bin/python3
"""The numbers of docs/performance.md, measured here and now.

Everything is compared with what the same host does without us, in the same run: one suite after the
other, and of each suite, each round measures every row once, one after the other, every other round
backwards, so that a slow minute of the machine hits both sides. Ratios are taken within a round; printed are
medians over the rounds and, in brackets, the quartiles.

A measurement in which anything failed is no result: it is counted and reported as a failure.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "tests" / "tools")]


def arguments():
    p = argparse.ArgumentParser(prog="make bench ARGS='...'", formatter_class=argparse.RawDescriptionHelpFormatter,
                                description=__doc__)
    p.add_argument("build", type=pathlib.Path, help="the build folder (make gives it)")
    p.add_argument("--only", metavar="A,B", default="", help="these suites, see --list")
    p.add_argument("--without", metavar="A,B", default="", help="all but these suites")
    p.add_argument("--rounds", type=int, default=5, help="default 5; a few suites stop earlier")
    p.add_argument("--quick", action="store_true", help="a tenth of the repetitions, small stores: to see that it works")
    p.add_argument("--seconds", type=int, default=1800, help="of the soak (--only soak), default 1800")
    p.add_argument("--check", action="store_true", help="exit status 1 when a target is not met or not measured, or a measurement failed")
    p.add_argument("--no-peers", action="store_true", help="leave the other sandboxes out")
    p.add_argument("--out", metavar="DIR", type=pathlib.Path, help="result.json, result.md and plots; default BUILD/bench")
    p.add_argument("--docs", action="store_true", help="put the tables and plots into docs/performance.md and docs/plots")
    p.add_argument("--list", action="store_true", help="print the suites and end")
    options = p.parse_args()
    if options.rounds < 1 or options.seconds < 10:
        p.error("--rounds is at least 1, --seconds at least 10")
    if options.docs and (options.quick or options.only or options.without):
        p.error("--docs is for a whole run")
    options.parser = p
    return options


OPTIONS = arguments()
os.environ["SKILLBOX_BUILD"] = str(OPTIONS.build.resolve())

import peers  # noqa: E402  (after the environment is set)
import report  # noqa: E402
import soak  # noqa: E402
import suites_gateway  # noqa: E402
import suites_limits  # noqa: E402
import suites_runs  # noqa: E402
from harness import settings, watch  # noqa: E402
from measure import Book, Failed  # noqa: E402
from stand import Stand, machine  # noqa: E402

SUITES = {s.name: s for s in suites_runs.SUITES + suites_limits.SUITES + suites_gateway.SUITES + soak.SUITES}
# What can go wrong with a measurement; anything else is a bug of the bench and ends it.
TROUBLE = (Failed, AssertionError, OSError)


def chosen():
    """The classes of the suites that were asked for."""
    def names(text):
        found = [n for n in text.split(",") if n]
        for name in found:
            if name not in SUITES:
                OPTIONS.parser.error(f"there is no suite named {name}; --list tells which there are")
        return found
    only, without = names(OPTIONS.only), names(OPTIONS.without)
    return [s for name, s in SUITES.items() if name not in without and (name in only if only else s.by_default)]


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def empty_directory_caches():
    """Root only.  The kernel keeps the names of files that are long gone; after hours of tests a bucket of its
    table has dozens, and each look-up of a path, ours or a peer's, walks through them."""
    if os.geteuid() == 0:
        os.sync()
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")


def rounds(suite, book):
    for number in range(min(OPTIONS.rounds, suite.rounds)):
        steps = suite.steps(number)
        for row, function in steps if number % 2 == 0 else reversed(steps):
            try:
                sample = function()
                if row is not None:
                    book.note(row, number, sample)
            except TROUBLE as error:
                say(f"failed: {row}: {error}")
                book.fail(row or ("a step",), number, error)


def trouble(suite, book, step, error):
    say(f"failed: {suite.name}: {error}")
    book.fail((suite.name, step), 0, error)


def measure(suite, book):
    """With its gateways, and no others: what else waits on a machine costs whatever runs some time.  Whether it could be
    prepared; without that it has nothing to show."""
    begun = time.monotonic()
    step = "preparation"
    try:
        suite.prepare()
        step = "once"
        empty_directory_caches()
        rounds(suite, book)
        suite.once()
    except TROUBLE as error:
        trouble(suite, book, step, error)
    finally:  # whatever ends it
        try:
            suite.stand.stop()
        except AssertionError as error:
            trouble(suite, book, "end", error)
    say(f"{suite.name}: {time.monotonic() - begun:.0f} s")
    return step != "preparation"


def main():
    if OPTIONS.list:
        for name, suite in SUITES.items():
            print(f"{name:12}{suite.about}{'' if suite.by_default else ' (only when asked for)'}")
        return 0
    if settings.SANITIZED:
        sys.exit("bench: sanitized programs measure nothing")
    classes = chosen()
    out = OPTIONS.out or OPTIONS.build.resolve() / "bench"
    out.mkdir(parents=True, exist_ok=True)
    watch.become_subreaper()
    # Whatever ends it, the gateways are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: told to stop"))
    book, begun, facts = Book(), time.monotonic(), machine()
    with tempfile.TemporaryDirectory(prefix="sbb-", dir="/tmp") as folder:
        found = {} if OPTIONS.no_peers or not any(issubclass(c, suites_runs.OneLine) for c in classes) else peers.find(book, out)
        suites = []
        for kind in classes:
            own = pathlib.Path(folder) / kind.name
            own.mkdir()
            suite = kind(Stand(own, OPTIONS.quick), book, found, 0.1 if OPTIONS.quick else 1.0)
            suite.soak_seconds = OPTIONS.seconds
            if measure(suite, book):
                suites.append(suite)
    facts["seconds"] = round(time.monotonic() - begun)
    facts["rounds"] = OPTIONS.rounds
    facts["quick"] = OPTIONS.quick
    missed = report.write(out, facts, book, suites)
    if OPTIONS.docs:
        report.into_docs(out, TOP / "docs")
    say(f"{facts['seconds']} s; {out}/result.json, result.md")
    return 1 if OPTIONS.check and (missed or book.failures) else 0


if __name__ == "__main__":
    sys.exit(main())
