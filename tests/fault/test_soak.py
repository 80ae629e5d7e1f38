"""Many runs in a row, then many at once, through the gateway: everything that could grow is the
same before and after.  `make soak` takes 10,000 and 200, and prints the table; CI 300 and 50."""

import concurrent.futures
import time

import requests

from harness import settings
from harness.census import at_rest, back_to, total
from harness.packages import skill

IN_A_ROW, AT_ONCE, EACH = (10000, 200, 10) if settings.FULL else (300, 50, 2)
CODE = "echo log; echo '{}' > $SANDBOX_OUTPUT; echo x > $SANDBOX_FILES_DIR/x"
# Bytes.  Which of nginx's workers had the most connections at once is chance: each keeps that much.
HELPER_MAY_GROW, NGINX_MAY_GROW = (512 << 10) * settings.SLOW ** 2, (2 << 20) * settings.SLOW ** 2
if settings.SANITIZED:  # AddressSanitizer keeps what was freed, up to 256 MiB a process
    HELPER_MAY_GROW = NGINX_MAY_GROW = 256 << 20


def runs(gw, count):
    """So many, over one connection."""
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(count):
            answer = session.post(gw.url + "/v1/executions", json={"skill": "soak"}, timeout=120 * settings.SLOW,
                                  headers={"Authorization": f"Bearer {gw.key}"})
            assert answer.status_code == 200 and answer.json()["status"] == "success", answer.text


def at_once(gw, each):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(runs, gw, each) for _ in range(AT_ONCE)]:
            done.result()


def show(steps):
    """A table: a line for each thing, a column for each step."""
    names, looks = list(steps), list(steps.values())
    rows = [(key, *(same.get(key) for same, _ in looks)) for key in looks[0][0]]
    for name in looks[0][1]:
        for i, what in enumerate(("resident", "PSS", "PSS, anonymous")):
            rows.append((f"{name}: {what} KiB", *(memory[name][i] >> 10 for _, memory in looks)))
    print("\n| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def test_soak_leaves_everything_as_it_was(make_gateway):
    gw = make_gateway(workers=4, helper={"concurrency": 2, "queue": 256})
    gw.push(skill("soak", CODE, "bash"))
    at_once(gw, 4)  # every worker has its connections and pools, every table its size
    steps = {"before": at_rest(gw)}
    begun = time.monotonic()
    runs(gw, IN_A_ROW)
    took = {f"{IN_A_ROW} in a row": time.monotonic() - begun}
    back_to(gw, steps["before"][0])
    steps[f"after {IN_A_ROW} in a row"] = at_rest(gw)
    begun = time.monotonic()
    at_once(gw, EACH)
    took[f"{AT_ONCE} times {EACH} at once"] = time.monotonic() - begun
    back_to(gw, steps["before"][0])
    steps[f"after {AT_ONCE} at once"] = at_rest(gw)
    show(steps)
    print("".join(f"\n{what}: {seconds:.1f} s" for what, seconds in took.items()))
    first, *later = steps.values()
    for same, memory in later:
        assert same == first[0]
        for kind, limit in (("sandbox", HELPER_MAY_GROW), ("nginx", NGINX_MAY_GROW)):
            grown = total(memory, kind) - total(first[1], kind)
            assert grown < limit, f"{kind}: {grown} bytes more"
