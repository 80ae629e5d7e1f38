#!/usr/bin/python3
"""bench.py BUILD [--quick]: the numbers of docs/performance.md, measured here and now.

Everything is compared with what the same host does without us, in the same run:
rounds of all measurements follow each other, so that a slow minute of the machine hits
both sides, and medians over the rounds are printed.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("build", type=pathlib.Path)
parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
options = parser.parse_args()
os.environ["SKILLBOX_BUILD"] = str(options.build.resolve())

from harness import settings, watch  # noqa: E402  (after the environment is set)
from harness.gateway import Gateway  # noqa: E402
from harness.packages import make_zip, skill  # noqa: E402

ROUNDS, RUNS, WRK_SECONDS, UPLOADS = (2, 10, 1, 5) if options.quick else (7, 40, 2, 20)
TOOLS = options.build.resolve() / "tests" / "bench"

LANGUAGES = {
    "Bash": ("bash", ":", ["/bin/bash", "-c", ":"]),
    "Python": ("python", "pass", ["/usr/bin/python3", "-c", "pass"]),
    "Node": ("node", "0", ["node", "-e", "0"]),
}
MIB = 1 << 20


def tool(*command):
    # A bare environment, as a skill has: the host's may make its interpreters slower.
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=700,
                            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/tmp"})
    if result.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}: {result.stdout}{result.stderr}")
    return json.loads(result.stdout)


def request_file(folder, name, method, path, key, body=b"", kind="application/json"):
    head = (f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
            + (f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n" if body else "") + "\r\n")
    file = pathlib.Path(folder) / name
    file.write_bytes(head.encode() + body)
    return file


def wrk(url, key):
    out = subprocess.run(["wrk", "-t1", "-c16", f"-d{WRK_SECONDS}s", "-H", f"Authorization: Bearer {key}", url],
                         capture_output=True, text=True, timeout=120, check=True).stdout
    if "Non-2xx" in out:
        sys.exit(f"bench: {url} does not answer 200\n{out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def median(samples, field):
    return statistics.median(s[field] for s in samples)


class Bench:
    def __init__(self, gw, folder):
        self.gw, self.folder, self.key = gw, folder, gw.key
        # Uploads go to another tenant: the list that is measured keeps its length.
        self.upload_key = gw.new_key("uploads")
        self.samples = {}

    def note(self, name, sample):
        self.samples.setdefault(name, []).append(sample)

    def prepare(self):
        for label, (lang, code, _) in LANGUAGES.items():
            self.gw.push(skill(f"one-line-{lang}", code, lang))
            body = json.dumps({"skill": f"one-line-{lang}"}).encode()
            request_file(self.folder, lang, "POST", "/v1/executions", self.key, body)
            for _ in range(3):
                done = self.gw.run(f"one-line-{lang}")
                if done["status"] != "success":
                    sys.exit(f"bench: {label} does not run: {done}")

    def load(self, lang, clients):
        return tool(TOOLS / "load", "-p", self.gw.port, "-c", clients, "-n", RUNS * clients,
                    "-e", '"status":"success"', pathlib.Path(self.folder) / lang)

    def upload(self, number):
        blob = os.urandom(MIB - 1000)
        package = make_zip(skill(f"upload-{number}", "pass", files={"blob": blob}), compression=0)
        file = request_file(self.folder, "upload", "POST", "/v1/skills", self.upload_key, package, "application/zip")
        return tool(TOOLS / "load", "-p", self.gw.port, "-n", 1, file)

    def round(self, number):
        for label, (lang, _, bare) in LANGUAGES.items():
            self.note((label, "bare", 1), tool(TOOLS / "spawn", "-n", RUNS, *bare))
            self.note((label, "http", 1), self.load(lang, 1))
            self.note((label, "bare", 2), tool(TOOLS / "spawn", "-c", 2, "-n", RUNS * 2, *bare))
            self.note((label, "http", 2), self.load(lang, 2))
        for name, path in (("return 200", "/return-200"), ("list", "/v1/skills"),
                           ("show", "/v1/skills/one-line-bash/1.0.0")):
            self.note(name, wrk(self.gw.url + path, self.key))
        for i in range(UPLOADS):
            self.note("upload", self.upload(number * UPLOADS + i))

    # ---- memory ----

    def memory(self):
        """PSS of the idle gateway's processes by role, and of one running sandbox."""
        roles = {"nginx master": [self.gw.nginx.pid], "nginx workers": self.gw.workers(),
                 "sandbox-helper": [self.gw.helper.pid], "sandbox-stage": self.gw.stages(),
                 "sandbox-packer": self.gw.packers()}
        return {role: sum(watch.pss(p) for p in pids) for role, pids in roles.items()}

    def sandbox_memory(self):

        self.gw.push(skill("hold", "sleep 3", "bash"))
        idle = set(watch.descendants(self.gw.helper.pid))
        runner = threading.Thread(target=self.gw.run, args=("hold",))
        runner.start()
        watch.wait_for(lambda: watch.children_named(self.gw.helper.pid, "sleep"), 10, "no run")
        extra = set(watch.descendants(self.gw.helper.pid)) - idle
        total = sum(watch.pss(p) for p in extra)
        runner.join(30)
        return total


def print_latency(samples):
    print(f"\n{'one-line skill':16}{'clients':>8}{'bare p50':>12}{'p95':>9}{'HTTP p50':>12}{'p95':>9}"
          f"{'ratio p50':>11}{'bare/s':>9}{'runs/s':>9}")
    for label in LANGUAGES:
        for clients in (1, 2):
            bare, http = samples[(label, "bare", clients)], samples[(label, "http", clients)]
            b50, b95, h50, h95 = (median(s, f) / 1000 for s in (bare, http) for f in ("p50_us", "p95_us"))
            print(f"{label:16}{clients:>8}{b50:>9.2f} ms{b95:>6.1f} ms{h50:>9.2f} ms{h95:>6.1f} ms"
                  f"{h50 / b50:>11.2f}{median(bare, 'per_second'):>9.0f}{median(http, 'per_second'):>9.0f}")


def ratio(samples, label):
    return (median(samples[(label, "http", 1)], "p50_us") / median(samples[(label, "bare", 1)], "p50_us"))


def report(bench, memory, sandbox):
    s = bench.samples
    print_latency(s)
    plain, listed, shown = (statistics.median(s[name]) for name in ("return 200", "list", "show"))
    print(f"\nnginx `return 200`       {plain:>10.0f} requests/s")
    print(f"GET /v1/skills           {listed:>10.0f} requests/s   {listed / plain:.2f} of return 200")
    print(f"GET /v1/skills/N/V       {shown:>10.0f} requests/s   {shown / plain:.2f} of return 200")
    uploads = sorted(u["p50_us"] / 1000 for u in s["upload"])
    print(f"\nupload of 1 MiB          {statistics.median(uploads):>8.1f} ms p50 "
          f"{uploads[int(len(uploads) * 0.95)]:>8.1f} ms p95")
    print("\nPSS, idle")
    for role, size in memory.items():
        print(f"  {role:22} {size / MIB:>8.2f} MiB")
    idle = sum(memory.values())
    print(f"  {'all together':22} {idle / MIB:>8.2f} MiB")
    print(f"  {'one running sandbox':22} {sandbox / MIB:>8.2f} MiB (bash and sleep in it)")
    targets = [("Bash, times bash -c :", ratio(s, "Bash"), 4.0, False),
               ("Python, times python3 -c pass", ratio(s, "Python"), 1.4, False),
               ("catalog GET, of return 200", listed / plain, 0.6, True),
               ("idle gateway, MiB", idle / MIB, 25.0, False)]
    print("\ntargets")
    for name, value, target, more in targets:
        met = value >= target if more else value <= target
        print(f"  {name:32}{value:>8.2f}   {'at least' if more else 'at most'} {target:<6} {'met' if met else 'MISSED'}")
    return all((v >= t) if more else (v <= t) for _, v, t, more in targets)


def main():
    if settings.SANITIZED:
        sys.exit("bench: sanitized programs measure nothing")
    watch.become_subreaper()
    # The access log is off for `return 200` and for us alike.
    gw = Gateway(http="access_log off;", server="location = /return-200 { default_type application/json;"
                                                " return 200 '{\"status\":\"ok\"}'; }").start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(gw, folder)
            bench.prepare()
            memory = bench.memory()
            sandbox = bench.sandbox_memory()
            for number in range(ROUNDS):
                bench.round(number)
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
            report(bench, memory, sandbox)
    finally:
        gw.stop()


if __name__ == "__main__":
    main()
