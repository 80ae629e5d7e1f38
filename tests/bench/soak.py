"""The soak: load for a long time, then far too much of it, and nothing has grown.

80 % of capacity for --seconds (default 1800) with a run that leaves an artifact now and then beside it, then three times
capacity for a fifteenth of that.  Looked at before, every tenth of the way, and after."""

import concurrent.futures
import os
import time

from harness import census
from harness.packages import skill

from measure import Failed, run_request, runs
from stand import first_runs, helper_status
from suite import Suite, Table, number

MIB = 1 << 20
# Bytes of anonymous memory; which worker had the most connections at once is chance.
MAY_GROW = {"sandbox": MIB, "nginx": 4 * MIB}
# Of the store for each run: the record, and LMDB's pages around it.
STORE_MAY_GROW = 4096


class Soak(Suite):
    name = "soak"
    about = "80 % of capacity for --seconds, then 3 times capacity; nothing grows, nothing fails"
    by_default = False
    rounds = 0

    def prepare(self):
        self.gw = gw = self.stand.gateway("soak")
        gw.push(skill("steady", "print('log')"))
        gw.push(skill("leaves", "echo log; echo x > $SANDBOX_FILES_DIR/x", "bash"))
        for name in ("steady", "leaves"):
            first_runs(gw, name, 5)
        self.steady, self.leaves = (run_request(self.stand.folder, gw, name) for name in ("steady", "leaves"))

    def once(self):
        gw, seconds = self.gw, self.soak_seconds
        self.looks = {}
        # Every worker gets its connections and pools, every table its size.
        runs(gw, self.steady, connections=160, rate=2000, seconds=5, every=False)
        capacity = runs(gw, self.steady, connections=2 * os.cpu_count(), seconds=10, every=False)["per_second"]
        self.book.facts["soak"] = facts = {"capacity": capacity, "seconds": seconds}
        self.look("before")
        part = max(2, seconds // 10)
        for i in range(1, 11):
            facts[f"part {i}"] = self.steady_part(capacity, part, i)
            self.look(f"after {i * part} s")
        over = max(5, seconds // 15)
        facts["overload"] = self.count(runs(gw, self.steady, connections=160, rate=round(3 * capacity), seconds=over,
                                            every=False), "overload")
        self.look("after the overload")
        self.judge()

    def steady_part(self, capacity, seconds, seed):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            other = pool.submit(runs, self.gw, self.leaves, rate=2, seconds=seconds, seed=seed, connections=8, every=False)
            sample = runs(self.gw, self.steady, connections=160, rate=max(1, round(0.8 * capacity)), seconds=seconds,
                          seed=seed, every=False)
            artifacts = other.result()
        self.count(artifacts, "artifacts")
        return {**self.count(sample, "steady"), "artifacts": artifacts["count"]}

    def count(self, sample, what):
        if sample["failed"]:
            self.book.fail(("soak", what), 0, f"{sample['failed']} answers that are neither success nor 503 with Retry-After")
        return sample

    def look(self, when):
        same, memory = census.at_rest(self.gw)
        store = (self.gw.state / "store" / "data.mdb").stat()
        self.looks[when] = {"same": same, "memory": {kind: census.total(memory, kind) for kind in MAY_GROW},
                            "store": store.st_blocks * 512, "runs": self.runs_total(), "time": time.monotonic(),
                            "artifacts": self.artifacts()}

    def runs_total(self):
        return helper_status(self.gw)["runs_total"]

    def artifacts(self):
        return sum(name.endswith(".tar.gz") for _, _, names in os.walk(self.gw.state / "artifacts") for name in names)

    def judge(self):
        """Against the first look; memory against a tenth of the way, when all has been used."""
        (_, first), (_, warm), *later = self.looks.items()
        for when, look in later:
            changed = {key: (first["same"].get(key), value) for key, value in look["same"].items()
                       if value != first["same"].get(key)}
            if changed:
                self.book.fail(("soak", when), 0, f"not as before: {changed}")
            for kind, limit in MAY_GROW.items():
                grown = look["memory"][kind] - warm["memory"][kind]
                if grown > limit:
                    self.book.fail(("soak", when), 0, f"{kind}: {grown} bytes more anonymous memory")
            done = look["runs"] - warm["runs"]
            if done and (look["store"] - warm["store"]) / done > STORE_MAY_GROW:
                self.book.fail(("soak", when), 0, f"the store grew by {(look['store'] - warm['store']) / done:.0f} bytes a run")
        facts = self.book.facts["soak"]
        kept = sum(facts[f"part {i}"]["artifacts"] for i in range(1, 11))
        left = self.looks["after the overload"]["artifacts"] - first["artifacts"]
        if kept != left:
            raise Failed(f"{kept} runs left an artifact, {left} artifacts are there")

    def tables(self):
        if not getattr(self, "looks", None):
            return []
        rows = [[when, number(look["runs"]), *(f"{look['memory'][kind] / MIB:.2f}" for kind in MAY_GROW),
                 f"{look['store'] / MIB:.1f}", look["artifacts"], sum(v for k, v in look["same"].items() if "descriptors" in k),
                 sum(v for k, v in look["same"].items() if "mounts" in k), look["same"]["processes below the helper"],
                 look["same"]["control groups"]] for when, look in self.looks.items()]
        facts = self.book.facts["soak"]
        load = [[name, number(s["offered"], 1), number(s["per_second"], 1), s["count"], s["rejected"], s["failed"],
                 f"{s.get('p50_us', 0) / 1000:.1f}", f"{s.get('p99_us', 0) / 1000:.1f}"]
                for name, s in facts.items() if isinstance(s, dict)]
        return [Table(f"Soak: capacity {facts['capacity']:.0f} runs a second",
                      ["", "offered/s", "done/s", "done", "refused, 503", "failed", "p50 ms", "p99 ms"], load),
                Table("What is there", ["", "runs", "helper's anonymous MiB", "nginx's", "store MiB", "artifacts", "descriptors",
                                        "mounts", "processes", "control groups"], rows)]


SUITES = [Soak]
