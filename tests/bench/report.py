"""Prints what was measured, as tables of markdown, and writes it: result.json, result.md, plots."""

import json
import re
import shutil

import plots


def markdown(table):
    widths = [max(len(str(row[i])) for row in [table.head, *table.rows]) for i in range(len(table.head))]

    def line(cells):
        return "| " + " | ".join(str(c).ljust(w) if i == 0 else str(c).rjust(w)
                                 for i, (c, w) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join(("-" * (w + 2)) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join(["", f"**{table.title}**", "", line(table.head), rule, *(line(row) for row in table.rows)])


def target_lines(targets):
    lines = ["", "**Targets**", "", "| what | target | measured | quartiles | |", "|---|---|--:|--:|---|"]
    for t in targets:
        value = "-" if t.value is None else f"{t.value:.2f}"
        quartiles = f"{t.spread[0]:.2f}-{t.spread[1]:.2f}" if t.spread and t.spread[0] != t.spread[1] else ""
        verdict = {True: "met", False: "MISSED", None: "not measured"}[t.met]
        lines.append(f"| {t.what} | {'at least' if t.at_least else 'at most'} {t.limit:g} | {value} | {quartiles} | {verdict} |")
    return "\n".join(lines)


def machine_lines(facts):
    return "\n".join([
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mib']} MiB; {facts['kernel']}; {facts['system']}; "
        f"started as {facts['user']}.",
        f"{facts['nginx']}; {facts['python']}; Node.js {facts['node']}; {facts['bash']}; {facts['bwrap']}.",
        f"{facts['time']}, {facts['rounds']} rounds, {facts['seconds']} s; load average before: {facts['load_average']}."
        + (" QUICK: few repetitions, small stores; no figures to be quoted." if facts["quick"] else "")])


def trouble_lines(book):
    lines = []
    if book.skipped:
        lines += ["", "**Not measured**", ""] + [f"- {what}: {why}" for what, why in book.skipped.items()]
    if book.failures:
        lines += ["", "**Failed, and counted nowhere**", ""]
        lines += [f"- {', '.join(map(str, row))}, round {n + 1}: {why}" for row, n, why in book.failures]
    return "\n".join(lines)


def result(facts, book, targets):
    """All of it, every latency included, as JSON can hold it."""
    return {"machine": facts,
            "rows": [{"row": list(name), "rounds": [{"round": n, **s} for n, s in sorted(rounds.items())]}
                     for name, rounds in book.rows.items()],
            "facts": book.facts, "skipped": book.skipped,
            "failures": [{"row": list(map(str, row)), "round": n, "why": why} for row, n, why in book.failures],
            "targets": [{"what": t.what, "limit": t.limit, "at_least": t.at_least, "value": t.value,
                         "quartiles": list(t.spread), "met": t.met} for t in targets]}


def write(out, facts, book, suites):
    """Prints and writes; how many targets were not met, those that could not be measured among them."""
    targets = [t for s in suites for t in s.targets()]
    text = "\n".join([machine_lines(facts), *(markdown(t) for s in suites for t in s.tables() if t.rows),
                      target_lines(targets) if targets else "", trouble_lines(book)]) + "\n"
    print(text, flush=True)
    (out / "result.md").write_text(text)
    with open(out / "result.json", "w", encoding="utf-8") as file:
        json.dump(result(facts, book, targets), file, separators=(",", ":"))
    plots.draw(out, book)
    return sum(not t.met for t in targets)


def into_docs(out, docs):
    """The tables between the marks of performance.md, the plots into plots/."""
    page = docs / "performance.md"
    text = (out / "result.md").read_text()
    new, count = re.subn(r"(<!-- bench -->\n).*?(<!-- end of bench -->)", lambda m: m[1] + "\n" + text + "\n" + m[2],
                         page.read_text(), flags=re.S)
    if count != 1:
        raise SystemExit(f"bench: {page} has not one pair of marks")
    page.write_text(new)
    (docs / "plots").mkdir(exist_ok=True)
    for file in out.glob("*.svg"):
        shutil.copy(file, docs / "plots" / file.name)
