"""Two hundred runs leave descriptors, mounts and memory as they were."""

import concurrent.futures
import time

from harness import check, settings, watch
from harness.packages import make_zip, skill

RUNS = 200 if not settings.SANITIZED else 100


def counts(gw):
    """What must stay constant, of every long-lived process."""
    pids = {"helper": gw.helper.pid,
            "stage": next(p for p in gw.stages() if watch.stat_fields(p)[2] == gw.helper.pid),
            "packer": next(p for p in gw.packers() if watch.stat_fields(p)[2] == gw.helper.pid)}
    found = {}
    for name, pid in pids.items():
        found[name] = {"pid": pid, "children": len(watch.descendants(pid)), **of_process(pid)}
    for i, pid in enumerate(sorted(gw.workers())):
        found[f"worker{i}"] = {"pid": pid, **of_process(pid)}
    return found


def of_process(pid):
    try:
        return {"fds": watch.fd_count(pid), "mounts": watch.mount_count(pid)}
    except PermissionError:
        # Stage and packer are not dumpable: only root may look into them.
        if settings.ROOT:
            raise
        return {}


def memory(gw):
    helper = gw.helper.pid
    pids = [helper, *[p for p in gw.stages() + gw.packers() if watch.stat_fields(p)[2] == helper]]
    return sum(watch.rss(p) for p in pids)


def unchanged(gw, before):
    """Waits until every count is what it was."""
    def changes():
        now = counts(gw)
        return {k: (before.get(k), now[k]) for k in now if now[k] != before.get(k)}
    try:
        watch.wait_for(lambda: not changes(), 10 * settings.SLOW, "", 0.2)
    except AssertionError:
        raise AssertionError(f"before and after: {changes()}") from None


def settle(gw):
    gw.session.close()
    watch.wait_for(lambda: gw.get("/ready").json()["helper"]["running"] == 0, 10, "runs do not end")
    gw.session.close()

    def steady():  # connections that were closed have been noticed
        first = counts(gw)
        time.sleep(0.3)
        return counts(gw) == first
    watch.wait_for(steady, 20, "descriptors and processes come and go")


def one_run(gw, i):
    code = ["print('x')", "raise SystemExit(3)", "open('/sandbox/out/files/a','w').write('x')",
            "import os; os.kill(os.getpid(), 9)", "print('{')", "open('/sandbox/out/output.json','w').write('{')"]
    body = gw.run("any", input={"code": code[i % len(code)]}, key=gw.key)
    assert body["status"] in ("success", "failed"), body


def prepared(make_gateway):
    gw = make_gateway()
    gw.push(skill("any", "import json; exec(json.load(open('/sandbox/input.json'))['code'])"))
    assert gw.key
    return gw


def test_two_hundred_runs_leave_descriptors_mounts_processes_and_memory(make_gateway):
    gw = prepared(make_gateway)
    for i in range(24):
        one_run(gw, i)
    settle(gw)
    before, memory_before, host_before = counts(gw), memory(gw), watch.mounts()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: one_run(gw, i), range(RUNS)))
    settle(gw)
    unchanged(gw, before)
    grown = memory(gw) - memory_before
    # A quarantine keeps freed memory of sanitized programs.
    limit = (512 << 10) if not settings.SANITIZED else (64 << 20)
    assert grown < limit, f"{grown} bytes more after {RUNS} runs"
    assert watch.mounts() == host_before
    assert list((gw.state / "helper" / "tmp").iterdir()) == []


def test_refused_uploads_leave_nothing(make_gateway):
    gw = prepared(make_gateway)
    bad = [b"", b"no zip", make_zip({"main.py": "1"}), make_zip({**skill("x", "1"), "../x": "1"}),
           make_zip({**skill("x", "1"), "zeros": bytes(20 << 20)})]
    for package in bad:
        gw.upload(package)
    settle(gw)
    before = counts(gw)
    for i in range(40):
        answer = gw.upload(bad[i % len(bad)])
        check.error(answer, answer.status_code)
    settle(gw)
    unchanged(gw, before)
    assert list((gw.state / "helper" / "tmp").iterdir()) == []
    assert list((gw.state / "store" / "tmp").iterdir()) == []


def test_clients_that_hang_up_leave_nothing(make_gateway, slow):
    gw = prepared(make_gateway)
    gw.push(skill("sleep", "import time; time.sleep(60)"))
    body = b'{"skill":"sleep"}'
    request = (f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gw.key}\r\n"
               f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body
    gw.raw(request, timeout=0.3)
    settle(gw)
    before = counts(gw)
    for i in range(20):
        gw.raw(request, timeout=0.02 * (i % 10 + 1))
    settle(gw)
    unchanged(gw, before)
