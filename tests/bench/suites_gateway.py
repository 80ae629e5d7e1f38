"""What the gateway costs: under more load than it can take, the catalogue, durable writes, memory."""

import collections
import concurrent.futures
import os
import pathlib
import time

from harness import watch
from harness.packages import skill

from measure import Failed, load, request_file, run_request, runs, watched, wrk
from stand import first_runs, helper_status
from suite import Suite, Table, ms, number, ratio, target

MIB = 1 << 20


class Saturation(Suite):
    """Offered load up to three times of what can be done: open loop, Poisson arrivals."""

    name = "saturation"
    about = "runs a second and p99 against offered load, up to 3 times capacity (open loop)"
    rounds = 3
    FACTORS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0)
    CONNECTIONS = 160  # above what the helper keeps waiting, so the client never holds back

    def prepare(self):
        gw = self.stand.gateway()
        gw.push(skill("offered", "pass"))
        first_runs(gw, "offered")
        self.request = run_request(self.stand.folder, gw, "offered")

    def sweep(self, round_number):
        """Capacity first, in the same round: what is offered is a multiple of that."""
        gw, seconds = self.stand.gateway(), self.seconds(2)
        capacity = runs(gw, self.request, connections=2 * os.cpu_count(), seconds=seconds, every=False)
        self.book.note(("saturation", "capacity"), round_number, capacity)
        for i, factor in enumerate(self.FACTORS):
            rate = max(1, round(capacity["per_second"] * factor))
            sample = runs(gw, self.request, connections=self.CONNECTIONS, seconds=seconds, rate=rate,
                          seed=1 + round_number * 100 + i)
            if sample["failed"]:
                self.book.fail(("saturation", factor), round_number,
                               f"{sample['failed']} answers that are neither success nor 503 with Retry-After")
            else:
                self.book.note(("saturation", factor), round_number, sample)

    def steps(self, number):
        return [(None, lambda: self.sweep(number))]

    def shares(self, factor):
        samples = self.book.rows.get(("saturation", factor), {}).values()
        good, rejected = (sum(s[field] for s in samples) for field in ("count", "rejected"))
        return rejected / (good + rejected) if good + rejected else None

    def tables(self):
        rows = []
        for factor in self.FACTORS:
            row = ("saturation", factor)
            refused = self.shares(factor)
            rows.append([f"{factor:.2f}", number(self.book.median(row, "offered")), number(self.book.median(row, "per_second")),
                         *(ms(self.book.percentile(row, p)) for p in (50, 95, 99)),
                         "-" if refused is None else f"{refused:.0%}", ms(self.book.median(row, "rejected_p99_us"))])
        capacity = number(self.book.median(("saturation", "capacity"), "per_second"))
        return [Table(f"Offered load (Python, `pass`); capacity, closed loop: {capacity} runs a second",
                      ["times capacity", "offered/s", "done/s", "p50 ms", "p95 ms", "p99 ms", "refused, 503", "p99 of those ms"],
                      rows)]


class Catalog(Suite):
    """Reads: against nginx's own `return 200`, and with more and more in the store."""

    name = "catalog"
    about = "catalog GET and list with 10 to 100,000 skills and a million execution records, /ready"
    SOME = 10
    # So many that the workers are never without a request. With fewer wrk, not the workers, is what waits, each answer
    # has to wake it, and how often that is depends on the rate: the ratio of two rates says little then.
    CONNECTIONS = 64

    def prepare(self):
        small, big = self.stand.gateway("small"), self.stand.gateway("big")
        some = big.new_key("some", "admin")
        size = big.options["seed"]
        one = "/v1/skills/skill-{:07}/1.0.0".format
        page = f"/v1/skills?limit={self.SOME}"
        self.paths = {
            "return 200": (small, "/return-200", None),
            "ready": (small, "/ready", None),
            f"get, {self.SOME} skills": (small, one(5), small.key),
            f"get, {size['some']:,} skills": (big, one(500), some),
            f"get, {size['skills']:,} skills": (big, one(size["skills"] // 2), big.key),
            f"list of {self.SOME}, {self.SOME} skills": (small, page, small.key),
            f"list of {self.SOME}, {size['some']:,} skills": (big, page, some),
            f"list of {self.SOME}, {size['skills']:,} skills": (big, page, big.key),
            f"list, {self.SOME} skills": (small, "/v1/skills", small.key),
            f"list, {size['some']:,} skills": (big, "/v1/skills", some),
            f"list, {size['skills']:,} skills": (big, "/v1/skills", big.key),
            "record, 1 execution": (small, "/v1/executions/" + small.seeded["execution"], small.key),
            f"record, {size['executions']:,} executions": (big, "/v1/executions/" + big.seeded["execution"], big.key),
            f"page of records, {size['executions']:,} executions": (big, "/v1/executions?limit=10", big.key),
        }
        self.bytes = {}
        for what, (gw, path, key) in self.paths.items():
            answer = gw.get(path, key=key)
            if answer.status_code != 200:
                raise Failed(f"{path} answers {answer.status_code}")
            self.bytes[what] = len(answer.content)

    def read(self, what):
        """With the time that the workers spent on it: what else runs here changes that least."""
        gw, path, key = self.paths[what]
        before = worker_ns(gw)
        sample = wrk(gw.url + path, key, self.seconds(1), self.CONNECTIONS)
        return {**sample, "cpu_us": (worker_ns(gw) - before) / 1000 / (sample["per_second"] * sample["seconds"])}

    def steps(self, number):
        return [(("catalog", what), lambda what=what: self.read(what)) for what in self.paths]

    def of(self, what, base):
        return self.book.ratio(("catalog", what), ("catalog", base), "per_second")

    def tables(self):
        rows = [[what, number(self.bytes[what]), number(self.book.median(("catalog", what), "per_second")),
                 ms(self.book.median(("catalog", what), "p50_us")), ms(self.book.median(("catalog", what), "p99_us")),
                 number(self.book.median(("catalog", what), "cpu_us"), 1), ratio(self.of(what, "return 200"))]
                for what in self.paths]
        return [Table(f"Reads a second: wrk, one thread, {self.CONNECTIONS} connections, two workers",
                      ["", "bytes", "a second", "p50 ms", "p99 ms", "workers' CPU us each", "of return 200"], rows)]

    def targets(self):
        names = list(self.paths)
        gets, pages = names[2:5], names[5:8]
        flat = [(gets[2], gets[0]), (pages[2], pages[0]), (names[12], names[11])]
        return [target("catalog GET, of return 200", self.of(gets[0], "return 200"), 0.75, True),
                *(target(f"{large}: CPU, of that of {small}",
                         self.book.ratio(("catalog", large), ("catalog", small), "cpu_us"), 1.15) for large, small in flat)]


def worker_ns(gw):
    """CPU time of the workers' event loops and threads so far."""
    total = 0
    for pid in gw.workers():
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


class Writes(Suite):
    """The gateway's own durable writes, with a helper that runs nothing, beside reads."""

    name = "writes"
    about = "durable writes a second (runs whose helper does nothing), and reads beside them"
    WRITERS = 16
    # So few that the machine, which stands still when both processors are busy and the disk is written, does not:
    # what is left is how long a write keeps a read waiting.
    PACE, PACE_WRITES = 500, 1000
    PACED = f"{PACE} reads a second beside {PACE_WRITES:,} writes"

    def prepare(self):
        self.gw = gw = self.stand.gateway("null")  # seeded: it can take no package
        self.path = "/v1/skills/skill-0000005/1.0.0"
        self.request = run_request(self.stand.folder, gw, "skill-0000005")
        self.read = request_file(self.stand.folder, "read", "GET", self.path, gw.key)
        runs(gw, self.request, count=10)

    def reads(self, seconds):
        return watched(seconds, lambda: wrk(self.gw.url + self.path, self.gw.key, seconds))

    def paced_reads(self, seconds):
        sample = watched(seconds, lambda: load(self.gw.port, self.read, connections=self.WRITERS, seconds=seconds,
                                               rate=self.PACE, seed=1, expect="skill-0000005", every=False))
        if sample["failed"]:
            raise Failed(f"{sample['failed']} reads failed")
        return sample

    def writes(self, seconds, clients, rate=None):
        before = worker_ns(self.gw)
        sample = runs(self.gw, self.request, connections=clients, seconds=seconds, rate=rate, every=False)
        if sample.get("failed"):
            raise Failed(f"{sample['failed']} writes failed")
        return {**sample, "cpu_us": (worker_ns(self.gw) - before) / 1000 / sample["count"]}

    def both(self, round_number, read, name, rate=None):
        seconds = self.seconds(2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            writing = pool.submit(self.writes, seconds + 1, self.WRITERS, rate)
            time.sleep(0.3)
            reading = read(seconds)
            self.book.note(("writes", name), round_number, writing.result())
        return reading

    def steps(self, number):
        return [(("writes", "reads alone"), lambda: self.reads(self.seconds(2))),
                (("writes", "one writer alone"), lambda: self.writes(self.seconds(1), 1)),
                (("writes", "writes alone"),
                 lambda: watched(self.seconds(2), lambda: self.writes(self.seconds(2), self.WRITERS))),
                (("writes", "reads beside writes"), lambda: self.both(number, self.reads, "writes beside reads")),
                (("writes", self.PACED), lambda: self.both(number, self.paced_reads, "writes beside those",
                                                         self.PACE_WRITES))]

    def tables(self):
        rows = [[what, number(self.book.median(("writes", what), "per_second")), ms(self.book.median(("writes", what), "p50_us")),
                 ms(self.book.median(("writes", what), "p99_us")),
                 number(self.book.median(("writes", what), "cpu_us"), 1) if what.endswith("alone") and "writ" in what else "",
                 number(self.book.median(("writes", what), "machine_stalls_per_second"), 1),
                 ms(self.book.median(("writes", what), "machine_longest_us"))]
                for what in ("one writer alone", "writes alone", "writes beside reads", "reads alone", "reads beside writes",
                             "writes beside those", self.PACED)]
        return [Table(f"Durable writes by {self.WRITERS} clients, reads by 16",
                      ["", "a second", "p50 ms", "p99 ms", "workers' CPU us each", "machine stood still, times a second",
                       "longest, ms"], rows)]

    def targets(self):
        return [target("reads beside saturated durable writes, of reads alone",
                       self.book.ratio(("writes", "reads beside writes"), ("writes", "reads alone"), "per_second"), 0.35, True),
                *(target(f"p99 of {what}, ms", scaled(self.book.spread(("writes", what), "p99_us"), 1e-3), 2.0)
                  for what in ("reads beside writes", self.PACED))]


def scaled(spread, factor):
    return None if spread is None else tuple(v * factor for v in spread)


class Memory(Suite):
    """Proportional set sizes: idle, of what waits, of what runs."""

    name = "memory"
    about = "PSS of the idle gateway, of each waiting process, of each running job; 24 jobs at once"
    HOLD = "import time\ntime.sleep({})\n"

    def once(self):
        for kind, what in (("default", "memory idle"), ("off", "memory off"), ("twelve", "memory twelve")):
            try:
                gw = self.stand.make(kind)
            except Failed as error:
                self.book.skip(what, str(error))
                continue
            try:
                gw.push(skill("one", "pass"))
                first_runs(gw, "one", 5)
                time.sleep(2)
                self.book.facts[what] = self.roles(gw)
            finally:
                gw.stop()
        self.jobs()

    def roles(self, gw):
        """{role: [count, bytes]}: nginx's by what they are, the helper's by name and depth."""
        found = collections.defaultdict(lambda: [0, 0])
        table = watch.processes()
        for role, pids in (("nginx master", [gw.nginx.pid]), ("nginx worker", gw.workers()),
                           ("sandbox-helper", [gw.helper.pid])):
            for pid in pids:
                self.add(found[role], pid)
        family = watch.descendants(gw.helper.pid, table)
        parents = {table[pid][2] for pid in family}
        for pid in family:
            comm, _, parent = table[pid]
            waits = parent != gw.helper.pid and pid not in parents
            self.add(found[f"{comm}, waiting" if waits else comm], pid)
        return dict(found)

    @staticmethod
    def add(entry, pid):
        try:
            size = watch.pss(pid)
        except (FileNotFoundError, ProcessLookupError):
            return
        entry[0] += 1
        entry[1] += size

    def jobs(self):
        gw, count = self.stand.make("wide"), 24
        try:
            gw.push(skill("hold", self.HOLD.format(5)))
            first_runs(gw, "hold", 1)
            time.sleep(1)
            before = self.family(gw)
            begun = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(count) as pool:
                pending = [pool.submit(gw.run, "hold") for _ in range(count)]
                watch.wait_for(lambda: self.running(gw) == count, 20, "24 jobs do not run at once")
                time.sleep(1.5)
                during = self.family(gw)
                good = sum(p.result()["status"] == "success" for p in pending)
            if good != count:
                raise Failed(f"of {count} jobs at once {good} succeeded")
            self.book.facts["24 jobs"] = {"idle": before, "running": during, "each": (during - before) / count,
                                          "seconds": time.monotonic() - begun}
        finally:
            gw.stop()

    @staticmethod
    def running(gw):
        return helper_status(gw)["running"]

    @staticmethod
    def family(gw):
        total = 0
        for pid in [gw.helper.pid, *watch.descendants(gw.helper.pid)]:
            try:
                total += watch.pss(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def total(self, which):
        roles = self.book.facts.get(which)
        return None if roles is None else sum(size for _, size in roles.values()) / MIB

    def child(self):
        """What one ready child costs: eight more of them, with all processes that belong to them."""
        few, many = self.total("memory idle"), self.total("memory twelve")
        return None if few is None or many is None else (many - few) / 8

    def tables(self):
        tables = []
        for which, title in (("memory idle", "PSS, idle, as delivered"), ("memory off", "PSS, idle, nothing made ahead")):
            roles = self.book.facts.get(which)
            if roles:
                rows = [[role, count, f"{size / MIB:.2f}", f"{size / MIB / count:.2f}"] for role, (count, size) in roles.items()]
                rows.append(["all together", "", f"{self.total(which):.2f}", ""])
                tables.append(Table(title, ["", "processes", "MiB", "MiB each"], rows))
        jobs = self.book.facts.get("24 jobs")
        if jobs:
            tables.append(Table("24 Python jobs at once; PSS", ["", "MiB"],
                                [["the helper's processes before", f"{jobs['idle'] / MIB:.1f}"],
                                 ["while 24 run", f"{jobs['running'] / MIB:.1f}"],
                                 ["one more running job", f"{jobs['each'] / MIB:.2f}"],
                                 ["one more ready child", "-" if self.child() is None else f"{self.child():.2f}"]]))
        return tables

    def targets(self):
        jobs = self.book.facts.get("24 jobs")
        return [target("idle gateway, MiB", one(self.total("memory idle")), 45),
                target("idle gateway, nothing made ahead, MiB", one(self.total("memory off")), 16),
                target("one more ready Python child, MiB", one(self.child()), 2),
                target("one running job, MiB", one(jobs and jobs["each"] / MIB), 4)]


def one(value):
    return None if value is None else (value, value, value)


SUITES = [Saturation, Catalog, Writes, Memory]
