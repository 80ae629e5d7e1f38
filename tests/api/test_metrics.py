"""/metrics: strict Prometheus text, and figures that move."""

import json
import re

import pytest

from harness import settings, watch
from harness.packages import skill

pytestmark = pytest.mark.any_user

PASS = "skillbox_pass unix:{state}/sock/helper.sock;"
SERVER = ("location = /metrics { skillbox_metrics on; " + PASS + " allow 127.0.0.1; deny all; }"
          "location = /closed { skillbox_metrics on; deny all; }"
          "location = /alone { skillbox_metrics on; }")

LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})?'
                  r' (-?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf)|NaN|\+Inf)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parse(text):
    """{(name, frozenset of labels): value} and {family: type}; raises where the format is broken."""
    samples, types, helps, family = {}, {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, family, words = line.split(" ", 3)
            assert family not in helps and words.endswith("."), line
            helps[family] = words
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and name not in types, line
            assert kind in ("counter", "gauge", "histogram")
            types[name] = kind
        else:
            match = LINE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            pairs = LABEL.findall(labels or "")
            assert len(dict(pairs)) == len(pairs), line
            assert "".join(f'{k}="{v}",' for k, v in pairs).rstrip(",") == (labels or ""), line
            base = re.sub(r"_(bucket|sum|count)$", "", name) if types.get(family) == "histogram" else name
            assert base == family, f"{line} stands under {family}"
            key = (name, frozenset(pairs))
            assert key not in samples, f"twice: {line}"
            samples[key] = float(value)
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert name.startswith("skillbox_")
        if kind == "histogram":
            check_histogram(samples, name)
    return samples, types


def check_histogram(samples, name):
    series = {}
    for (sample, labels), value in samples.items():
        if sample == name + "_bucket":
            bound = float(dict(labels)["le"])
            rest = frozenset(p for p in labels if p[0] != "le")
            series.setdefault(rest, []).append((bound, value))
    for labels, buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts) and sorted(buckets)[-1][0] == float("inf")
        assert counts[-1] == samples[(name + "_count", labels)]
        assert (name + "_sum", labels) in samples


@pytest.fixture(scope="module")
def gw():
    from harness.gateway import Gateway
    gateway = Gateway(server=SERVER, http="map $skillbox_tenant $class { vip gold; default ''; }",
                      location="skillbox_metrics_class $class;").start()
    yield gateway
    gateway.stop()


def scrape(gw, path="/metrics"):
    answer = gw.get(path, key=None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.text)


def value(samples, name, **labels):
    return samples.get((name, frozenset(labels.items())), 0)


def moved(gw, do, name, **labels):
    before = value(scrape(gw)[0], name, **labels)
    do()
    return value(scrape(gw)[0], name, **labels) - before


def test_the_text_is_valid_and_has_the_figures(gw):
    gw.push(skill("fine", "print(1)"))
    gw.run("fine")
    samples, types = scrape(gw)
    assert value(samples, "skillbox_build_info", version="0.1.0",
                 nginx=dict(next(k[1] for k in samples if k[0] == "skillbox_build_info"))["nginx"]) == 1
    assert value(samples, "skillbox_store_up") == 1 and value(samples, "skillbox_helper_up") == 1
    assert value(samples, "skillbox_workers") == 2
    assert 0 < value(samples, "skillbox_store_used_bytes") <= value(samples, "skillbox_store_map_bytes") == 256 << 20
    assert value(samples, "skillbox_helper_concurrency") > 0
    assert types["skillbox_store_commit_seconds"] == "histogram"
    assert value(samples, "skillbox_store_commit_seconds_count") >= 2


def test_it_is_told_how_runs_got_their_interpreters(gw):
    gw.push(skill("starts", "print(1)"))

    def starts():
        samples = scrape(gw)[0]
        return sum(value(samples, "skillbox_helper_starts_total", runtime="python", start=start)
                   for start in ("ready", "forked", "plain"))
    before = starts()
    gw.run("starts")
    watch.wait_for(lambda: starts() > before, 10 * settings.SLOW, "no start was counted")
    samples, types = scrape(gw)
    assert types["skillbox_helper_starts_total"] == "counter"
    assert value(samples, "skillbox_helper_interpreter_up", runtime="python") == 1
    assert ("skillbox_helper_interpreters_waiting", frozenset({("runtime", "python")})) in samples


def test_runs_move_their_counters_and_histograms(gw):
    gw.push(skill("moves", "import time; time.sleep(0.06)"))
    gw.push(skill("fails", "raise SystemExit(3)"))
    labels = {"class": "default", "skill": "moves"}
    assert moved(gw, lambda: [gw.run("moves") for _ in range(3)], "skillbox_executions_total",
                 status="success", **labels) == 3
    assert moved(gw, lambda: gw.run("fails"), "skillbox_executions_total", status="failed",
                 **{**labels, "skill": "fails"}) == 1
    samples, _ = scrape(gw)
    for phase in ("queue", "start", "run", "collect"):
        assert value(samples, f"skillbox_execution_{phase}_seconds_count", **labels) == 3
    name = "skillbox_execution_run_seconds"
    assert 0.18 <= value(samples, name + "_sum", **labels) < 20
    assert value(samples, name + "_bucket", le="0.05", **labels) == 0
    assert value(samples, "skillbox_execution_start_seconds_sum", **labels) <= value(samples, name + "_sum", **labels)


def test_a_class_of_tenants_has_figures_of_its_own(gw):
    key = gw.new_key("vip")
    gw.push(skill("classy", "print(1)"), key=key)
    assert moved(gw, lambda: gw.run("classy", key=key), "skillbox_executions_total", status="success",
                 skill="classy", **{"class": "gold"}) == 1


def test_requests_uploads_and_failures_are_counted(gw):
    name = "skillbox_http_requests_total"
    assert moved(gw, lambda: gw.get("/v1/skills"), name, endpoint="skills", **{"class": "2xx"}) == 1
    assert moved(gw, lambda: gw.execute("nobody"), name, endpoint="run", **{"class": "4xx"}) == 1
    assert moved(gw, lambda: gw.get("/v1/no/such/thing"), name, endpoint="other", **{"class": "4xx"}) == 1
    package = skill("counted", "print(1)")
    for result in ("created", "unchanged"):
        assert moved(gw, lambda: gw.push(package), "skillbox_uploads_total", result=result) == 1
    assert moved(gw, lambda: gw.upload(b"no zip"), "skillbox_uploads_total", result="refused") == 1
    failures = "skillbox_auth_failures_total"
    assert moved(gw, lambda: gw.get("/v1/skills", key=None), failures, reason="missing") == 1
    assert moved(gw, lambda: gw.get("/v1/skills", key="sk-" + "A" * 43), failures, reason="invalid") == 1
    samples, _ = scrape(gw)
    assert value(samples, "skillbox_auth_failing_addresses") == 1
    assert value(samples, "skillbox_auth_address_failures", address="127.0.0.1") >= 1


def test_limits_are_counted(gw):
    operator = gw.new_key("ops", "admin", "--service")
    gw.push(skill("held", "print(1)"), key=operator)
    gw.put("/v1/admin/tenants/ops", key=operator, json={"limits": {"runs_per_minute": 0}})
    assert moved(gw, lambda: gw.execute("held", key=operator), "skillbox_limited_total",
                 limit="runs_per_minute") == 1


def test_asynchronous_runs_are_counted_when_they_end(gw):
    gw.push(skill("in-its-time", "print(1)"))
    labels = {"class": "default", "skill": "in-its-time"}
    for _ in range(3):
        assert gw.execute("in-its-time", **{"async": True}).status_code == 202
    watch.wait_for(lambda: value(scrape(gw)[0], "skillbox_executions_total", status="success", **labels) == 3,
                   20, "not counted")
    samples, _ = scrape(gw)
    for phase in ("queue", "start", "run", "collect"):
        assert value(samples, f"skillbox_execution_{phase}_seconds_count", **labels) == 3


def test_skills_beyond_the_bound_are_counted_together(gw):
    gw.push(skill("many", "print(1)"))
    names = [f"many-{i}" for i in range(70)]
    for name in names:
        gw.push(skill(name, "pass"))
    key = gw.key
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(a.status_code == 200 for a in pool.map(
            lambda n: gw.session.post(gw.url + "/v1/executions", json={"skill": n},
                                      headers={"Authorization": "Bearer " + key}), names))
    samples, _ = scrape(gw)
    skills = {dict(labels)["skill"] for name, labels in samples if name == "skillbox_executions_total"}
    assert len(skills) == 64 and "other" in skills
    done = sum(v for (name, _), v in samples.items() if name == "skillbox_executions_total")
    assert done >= 70, "none is lost"


def test_the_operators_list_and_a_location_without_a_helper(gw):
    assert gw.get("/closed", key=None).status_code == 403
    samples, types = scrape(gw, "/alone")
    assert value(samples, "skillbox_store_up") == 1
    assert not [name for name in types if name.startswith("skillbox_helper_")]
    answer = gw.post("/metrics", key=None)
    assert answer.status_code == 405


def test_a_dead_helper_is_said(make_gateway):
    gw = make_gateway(server=SERVER, with_helper=False)
    samples, _ = scrape(gw)
    assert value(samples, "skillbox_helper_up") == 0 and ("skillbox_helper_up", frozenset()) in samples


def test_every_metric_of_the_dashboard_and_the_alerts_exists(gw):
    _, types = scrape(gw)
    folder = settings.TOP / "conf" / "monitoring"
    for name in ("dashboard.json", "alerts.yaml"):
        text = (folder / name).read_text()
        named = set(re.findall(r"\bskillbox_[a-z_]+", text))
        assert len(named) > 5
        known = set(types) | {f"{t}{s}" for t, kind in types.items() if kind == "histogram"
                              for s in ("_bucket", "_sum", "_count")}
        assert named <= known, f"{name}: {sorted(named - known)}"
    json.loads((folder / "dashboard.json").read_text())
