"""What a run costs: one line in each language, common imports, statistics, an artifact, many at once, cold."""

import collections
import json
import os
import pathlib
import random
import time

from harness.packages import make_zip, skill

import fcgi_call
from measure import ENVIRONMENT, Failed, call, load, request_file, run_request, runs, spawn, spread, watched
from stand import first_runs, helper_counts
from suite import Suite, Table, ms, number, ratio, target

IMPORTS = ("import json, re, csv, datetime, collections, math, statistics, pathlib, base64, hashlib, itertools\n"
           "import urllib.parse\n")
STATISTICS = """import json, os, statistics, sys
rows = json.load(sys.stdin)["rows"]
prices = [row["price"] for row in rows]
cities = {}
for row in rows:
    cities.setdefault(row["city"], []).append(row["price"] * row["count"])
answer = {"rows": len(rows), "mean": statistics.fmean(prices), "median": statistics.median(prices),
          "stdev": statistics.stdev(prices), "quartiles": statistics.quantiles(prices, n=4),
          "by_city": {city: {"sum": round(sum(v), 2), "max": max(v)} for city, v in sorted(cities.items())}}
with open(os.environ.get("SANDBOX_OUTPUT", "/dev/stdout"), "w") as out:
    json.dump(answer, out)
"""
# 1 MiB each.  The table repeats itself at a distance that gzip does not see (32 KiB).
ARTIFACTS = {
    "random bytes": "data = os.urandom(1 << 20)\n",
    "a table": "page = ''.join(f'{i},{i * 7919 % 10007},{i * 104729 % 1299709}\\n' for i in range(4096)).encode()\n"
               "data = (page * (1 + (1 << 20) // len(page)))[:1 << 20]\n",
}
ARTIFACT = ("import os\n{data}"
            "with open(os.path.join(os.environ['SANDBOX_FILES_DIR'], 'artifact'), 'wb') as out:\n"
            "    out.write(data)\n")


def table_rows(count):
    """The same ones each time."""
    source = random.Random(1)
    return [{"id": i, "city": source.choice(["Graz", "Linz", "Wien", "Bregenz"]), "price": round(source.uniform(1, 500), 2),
             "count": source.randint(1, 9)} for i in range(count)]


class OneLine(Suite):
    """A script of one line: bare, in other sandboxes, over HTTP.

    ready: a pause after each run, long enough for the next child to be ready; back to back: no pause,
    so what is made ahead is used up; none ready: no child waits, a zygote that is there forks one; no
    zygote: nothing is started before the run."""

    lang, title, code = "", "", ""
    command = []
    limit = 0.0  # of bare, when one is ready
    runs, pause_ms = 40, 20
    KINDS = {"default": "ready", "cold": "none ready"}

    def prepare(self):
        self.skill = f"one-line-{self.lang}"
        self.request = {}
        for kind, words in self.KINDS.items():
            try:
                gw = self.stand.gateway(kind)
                gw.push(skill(self.skill, self.code, self.lang))
                first_runs(gw, self.skill, 5)
                self.request[kind] = run_request(self.stand.folder, gw, self.skill), gw
            except Failed as error:
                self.book.skip(f"{self.title}, {words}", str(error))

    def http(self, kind, **options):
        request, gw = self.request[kind]
        before = helper_counts(gw)
        sample = runs(gw, request, **options)
        return {**sample, "helper": {key: value - before.get(key, 0) for key, value in helper_counts(gw).items()
                                     if key.endswith("_runs")}}

    def taken(self, row):
        """How the helper served those runs, where it says so: `forked 20, ready 380`."""
        sums = collections.Counter()
        for sample in self.book.rows.get(row, {}).values():
            sums.update(sample.get("helper", {}))
        return ", ".join(f"{key.rsplit('.', 1)[-1].removesuffix('_runs')} {value}"
                         for key, value in sorted(sums.items()) if value)

    def steps(self, number):
        count = self.times(self.runs)
        steps = [((self.name, "bare"), lambda: spawn(self.command, count)),
                 ((self.name, "http ready"), lambda: self.http("default", count=count, pause_us=self.pause_ms * 1000)),
                 ((self.name, "http back to back"), lambda: self.http("default", count=count))]
        for kind in self.request:
            if kind != "default":
                steps.append(((self.name, f"http {self.KINDS[kind]}"), lambda kind=kind: self.http(kind, count=count)))
        for name, (wrap, share) in self.peers.items():
            some = max(2, int(count * share))
            steps.append(((self.name, name), lambda wrap=wrap, some=some: spawn(wrap(self.command), some)))
        return steps

    def tables(self):
        bare = (self.name, "bare")
        rows = []
        for what in ("bare", *self.peers, "http ready", "http back to back", "http none ready", "http no zygote"):
            row = (self.name, what)
            if row in self.book:
                rows.append([what, *(ms(self.book.percentile(row, p)) for p in (50, 95, 99)),
                             ratio(self.book.ratio(row, bare)), len(self.book.pooled(row)), self.taken(row)])
        return [Table(f"{self.title}: `{' '.join(self.command)}`", ["", "p50 ms", "p95 ms", "p99 ms", "of bare, p50",
                                                                    "measured", "by the helper's count"], rows)]


class Python(OneLine):
    name, lang, title, code = "python", "python", "One line of Python", "pass"
    about = "one line of Python: bare, in other sandboxes, over HTTP"
    command = ["/usr/bin/python3", "-c", "pass"]
    limit = 0.12
    runs = 80
    KINDS = {**OneLine.KINDS, "off": "no zygote"}

    def targets(self):
        ready, bare = (self.name, "http ready"), (self.name, "bare")
        tails = [target(f"Python, ready, p{p} of bare p50", one(self.book.tail_ratio(ready, bare, p)), limit)
                 for p, limit in ((95, 0.25), (99, 0.5))]
        return [target("Python, ready, p50 of bare", self.book.ratio(ready, bare), self.limit), *tails,
                target("Python, none ready, p50 of bare", self.book.ratio((self.name, "http none ready"), bare), 0.45)]


class Node(OneLine):
    name, lang, title, code = "node", "node", "One line of JavaScript", "0"
    about = "one line of JavaScript (Node.js)"
    command = ["node", "-e", "0"]
    limit = 0.15
    runs, pause_ms = 25, 150

    def targets(self):
        return [target(f"Node, {what}, p50 of bare", self.book.ratio((self.name, f"http {what}"), (self.name, "bare")), limit)
                for what, limit in (("ready", self.limit), ("none ready", 1.25))]


class Bash(OneLine):
    name, lang, title, code = "bash", "bash", "One line of Bash", ":"
    about = "one line of Bash"
    command = ["/bin/bash", "-c", ":"]
    limit = 2.0
    runs, pause_ms = 80, 10

    def targets(self):
        return [target("Bash, p50 of bare", self.book.ratio((self.name, "http ready"), (self.name, "bare")), self.limit)]


def one(value):
    return None if value is None else (value, value, value)


class Script(Suite):
    """The same script file bare and over HTTP; `cases` are the rows' names with code and input."""

    cases = {}
    pause_ms = 20
    runs = 30
    limit = 0.0

    def prepare(self):
        gw = self.stand.gateway()
        self.files = {}
        for i, (case, (code, data)) in enumerate(self.cases.items()):
            script = pathlib.Path(self.stand.folder) / f"{self.name}-{i}.py"
            script.write_text(code)
            stdin = script.with_suffix(".json")
            stdin.write_text(json.dumps(data))
            name = f"{self.name}-{i}"
            gw.push(skill(name, code))
            first_runs(gw, name, 4, input=data)
            self.files[case] = script, stdin, run_request(self.stand.folder, gw, name, input=data)

    def bare(self, script, stdin, count):
        return spawn(["/usr/bin/python3", script], count, stdin=stdin)

    def http(self, request, count):
        return runs(self.stand.gateway(), request, count=count, pause_us=self.pause_ms * 1000)

    def steps(self, number):
        count = self.times(self.runs)
        steps = []
        for case, (script, stdin, request) in self.files.items():
            steps += [((self.name, case, "bare"), lambda s=script, i=stdin: self.bare(s, i, count)),
                      ((self.name, case, "http"), lambda r=request: self.http(r, count))]
        return steps

    def comparison(self, case):
        return self.book.ratio((self.name, case, "http"), (self.name, case, "bare"))

    def tables(self):
        rows = []
        for case in self.cases:
            for what in ("bare", "http"):
                row = (self.name, case, what)
                rows.append([f"{case}, {'over HTTP, ready' if what == 'http' else self.bare_words}",
                             *(ms(self.book.percentile(row, p)) for p in (50, 95, 99)),
                             ratio(self.comparison(case)) if what == "http" else ""])
        return [Table(self.title, ["", "p50 ms", "p95 ms", "p99 ms", "of bare, p50"], rows)]

    bare_words = "bare"

    def targets(self):
        return [target(f"{case}, p50 of bare", self.comparison(case), self.limit) for case in self.cases]


class Imports(Script):
    name, title, limit = "imports", "Python with 12 common imports", 0.12
    about = "Python with 12 common imports, against the same script bare"
    cases = {"12 imports": (IMPORTS, {})}


class Statistics(Script):
    name, title, limit = "stats", "JSON in, statistics over 1,000 rows, JSON out", 0.35
    about = "JSON in, statistics over 1,000 rows, JSON out"
    cases = {"1,000 rows": (STATISTICS, {"rows": table_rows(1000)})}


class Artifact(Script):
    name, title, limit = "artifact", "One artifact of 1 MiB", 0.6
    about = "one artifact of 1 MiB, against the same script bare and tar czf"
    runs, bare_words = 15, "bare, then tar czf"
    cases = {f"1 MiB of {what}": (ARTIFACT.format(data=data), {}) for what, data in ARTIFACTS.items()}

    def bare(self, script, stdin, count):
        out = pathlib.Path(self.stand.folder) / "bare-artifact"
        out.mkdir(exist_ok=True)
        return spawn(["/usr/bin/python3", script], count, stdin=stdin,
                     then=["tar", "czf", str(out) + ".tar.gz", "-C", out, "artifact"],
                     environment={**ENVIRONMENT, "SANDBOX_FILES_DIR": str(out)})

    def http(self, request, count):
        return runs(self.stand.gateway(), request, count=count, pause_us=self.pause_ms * 1000,
                    expect='"files_list":["artifact"]')


class Many(Suite):
    """Both cores full: throughput."""

    name = "many"
    about = "100 runs by 10 clients, and runs a second with both cores full, against bare"
    LIMIT = 3.0  # Python, of bare
    LANGUAGES = {"python": ("pass", Python.command, 2), "bash": (":", Bash.command, 1), "node": ("0", Node.command, 1)}

    def prepare(self):
        gw = self.stand.gateway()
        self.requests = {}
        for lang, (code, _, _) in self.LANGUAGES.items():
            gw.push(skill(f"many-{lang}", code, lang))
            first_runs(gw, f"many-{lang}")
            self.requests[lang] = run_request(self.stand.folder, gw, f"many-{lang}")

    def steps(self, number):
        gw, cores = self.stand.gateway(), os.cpu_count()
        hundred = self.times(100)
        steps = [(("many", "100 by 10", "bare"), lambda: spawn(Python.command, hundred, callers=10)),
                 (("many", "100 by 10", "http"), lambda: runs(gw, self.requests["python"], connections=10, count=hundred))]
        for lang, (_, command, seconds) in self.LANGUAGES.items():
            steps += [(("many", lang, "bare"), lambda c=command, s=self.seconds(seconds):
                       watched(s, lambda: spawn(c, seconds=s, callers=cores))),
                      (("many", lang, "http"), lambda r=self.requests[lang], s=self.seconds(seconds):
                       watched(s, lambda: runs(gw, r, connections=2 * cores, seconds=s)))]
        return steps

    def tables(self):
        rows = []
        for case in ("100 by 10", *self.LANGUAGES):
            bare, http = ("many", case, "bare"), ("many", case, "http")
            rows.append(["Python, 100 runs by 10 clients" if case == "100 by 10" else case,
                         number(self.book.median(bare, "per_second")), number(self.book.median(http, "per_second")),
                         ratio(self.book.ratio(http, bare, "per_second")), ms(self.book.percentile(http, 50)),
                         ms(self.book.percentile(http, 99)),
                         *(number(self.book.median(row, "machine_stalls_per_second"), 1) for row in (bare, http))])
        return [Table(f"Runs a second, closed loop: bare by {os.cpu_count()} callers, HTTP by {2 * os.cpu_count()} clients",
                      ["", "bare", "HTTP", "HTTP of bare", "HTTP p50 ms", "p99 ms",
                       "machine stood still, times a second: bare", "HTTP"], rows)]

    def targets(self):
        return [target("Python runs a second, saturated, of bare on all cores",
                       self.book.ratio(("many", "python", "http"), ("many", "python", "bare"), "per_second"), self.LIMIT, True)]


class Cold(Suite):
    """What is paid once: the first run of a package, the first of a helper."""

    name = "cold"
    about = "first run after an upload, first run after a start of the helper; an upload of 1 MiB"

    def prepare(self):
        self.gw = self.stand.gateway()
        self.upload_key = self.gw.new_key("uploads")
        self.restarted = self.stand.gateway("restarted")
        self.restarted.push(skill("again", "pass"))
        self.request = run_request(self.stand.folder, self.restarted, "again")
        runs(self.restarted, self.request, count=1)

    def after_upload(self, number):
        name = f"fresh-{number}"
        self.gw.push(skill(name, f"print({number})"))
        time.sleep(0.1)
        return runs(self.gw, run_request(self.stand.folder, self.gw, name), count=1)

    def after_start(self):
        self.restarted.stop_helper()
        begun = time.monotonic()
        self.restarted.start_helper()
        ready = time.monotonic()
        first = runs(self.restarted, self.request, count=1)
        return {**first, "start_us": (ready - begun) * 1e6}

    def upload(self, number):
        package = make_zip(skill(f"upload-{number}", "pass", files={"blob": os.urandom((1 << 20) - 1000)}), compression=0)
        file = request_file(self.stand.folder, "upload", "POST", "/v1/skills", self.upload_key, package, "application/zip")
        return load(self.gw.port, file, count=1, expect='"status":"available"')

    def steps(self, number):
        some = [number * 10 + i for i in range(self.times(3))]
        return ([(("cold", "after upload", i), lambda i=i: self.after_upload(i)) for i in some]
                + [(("cold", "after start", number), self.after_start)]
                + [(("cold", "upload", i), lambda i=i: self.upload(i)) for i in some])

    def all_of(self, kind, field="p50_us"):
        return [v for row in self.book.rows if row[:2] == ("cold", kind) for v in self.book.values(row, field)]

    def tables(self):
        rows = []
        for what, kind, field in (("first run after an upload", "after upload", "p50_us"),
                                  ("first run after the helper's start", "after start", "p50_us"),
                                  ("the helper's start, to `ready` (to 20 ms)", "after start", "start_us"),
                                  ("upload of 1 MiB, stored durably, ready to run", "upload", "p50_us")):
            values = sorted(self.all_of(kind, field))
            if values:
                rows.append([what, ms(values[len(values) // 2]), ms(values[0]), ms(values[-1]), len(values)])
        return [Table("Cold (Python, `pass`)", ["", "median ms", "least", "most", "measured"], rows)]


class HelperAlone(Suite):
    """The sandbox around `true`, asked of the helper's socket: no HTTP, no interpreter."""

    name = "sandbox"
    about = "a full sandbox around `true`, by the helper alone, against posix_spawn of `true`"
    COMMAND = ["/usr/bin/true"]

    def prepare(self):
        self.gw = self.stand.gateway("true")
        answer = fcgi_call.intake(self.gw.helper_socket, make_zip(skill("true", "x", "bash")))
        if answer.status != 200:
            raise Failed(f"intake answers {answer.status} {answer.body[:300]!r}")
        params = fcgi_call.run_params(answer.json["digest"], lang="bash", target="main.sh", job_length=2,
                                      execution="00000000-0000-7000-8000-0000bec40000")
        self.file = pathlib.Path(self.stand.folder) / "true.fcgi"
        self.file.write_bytes(fcgi_call.begin() + fcgi_call.stream(fcgi_call.PARAMS, fcgi_call.pairs(params))
                              + fcgi_call.stream(fcgi_call.STDIN, b"{}{}"))
        self.call(5, 0)

    def call(self, count, pause_us):
        return call(self.gw.helper_socket, self.file, count, pause_us)

    def steps(self, number):
        count = self.times(100)
        return [(("sandbox", "bare"), lambda: spawn(self.COMMAND, 2 * count)),
                (("sandbox", "helper, ready"), lambda: self.call(count, 8000)),
                (("sandbox", "helper, back to back"), lambda: self.call(count, 0))]

    def limit_ratio(self):
        """Of 2.5 times bare and 1.5 ms, in each round."""
        ours, bare = (self.book.rows.get(("sandbox", what), {}) for what in ("helper, back to back", "bare"))
        return [ours[n]["p50_us"] / (2.5 * bare[n]["p50_us"] + 1500) for n in sorted(ours) if n in bare]

    def tables(self):
        rows = [[what, *(ms(self.book.percentile(("sandbox", what), p)) for p in (50, 95, 99)),
                 ratio(self.book.ratio(("sandbox", what), ("sandbox", "bare")))]
                for what in ("bare", "helper, ready", "helper, back to back")]
        return [Table("A full sandbox around `true`, by the helper alone", ["", "p50 ms", "p95 ms", "p99 ms", "of bare"], rows)]

    def targets(self):
        return [target("sandbox around true, of (2.5 x true + 1.5 ms)", spread(self.limit_ratio()), 1.0)]


SUITES = [Python, Node, Bash, Imports, Statistics, Artifact, Many, Cold, HelperAlone]
