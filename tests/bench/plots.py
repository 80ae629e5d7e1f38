"""Plots by gnuplot, as SVG: how latencies are distributed, what happens under load, what size costs."""

import shutil
import subprocess
import sys

STYLE = """set terminal svg size 760,420 font 'sans,12' background '#ffffff'
set grid back lc rgb '#dddddd'
set border 3
set tics nomirror
"""
COLOURS = ["#555555", "#c0392b", "#8e44ad", "#e67e22", "#1f77b4", "#2ca02c", "#17becf", "#bcbd22"]


def quantiles(pool, steps=200):
    """(latency in ms, share) pairs of a distribution."""
    return [(pool[min(len(pool) - 1, i * len(pool) // steps)] / 1000, i / steps * 100) for i in range(steps + 1)]


def blocks(series):
    """Named data blocks of gnuplot, and the plot commands' parts."""
    data = parts = ""
    for i, (title, points, style) in enumerate(series):
        data += f"$d{i} << EOD\n" + "\n".join(" ".join(map(str, p)) for p in points) + "\nEOD\n"
        parts += f"{', ' if i else 'plot '}$d{i} {style} lc rgb '{COLOURS[i % len(COLOURS)]}' title \"{title}\""
    return data, parts + "\n"


def distribution(book, lang, title):
    series = [(what, quantiles(book.pooled((lang, what))), "using 1:2 with lines lw 2")
              for what in ("bare", "bubblewrap", "nsjail", "isolate", "http ready", "http back to back", "http none ready", "http no zygote")
              if (lang, what) in book]
    if len(series) < 2:
        return None
    data, plot = blocks(series)
    return (STYLE + data + f"set title '{title}'\nset xlabel 'ms (logarithmic)'\nset ylabel '% of runs at most that'\n"
            "set logscale x\nset key bottom right\nset yrange [0:100]\n" + plot)


def saturation(book):
    points = []
    for row in sorted((r for r in book.rows if r[0] == "saturation" and r[1] != "capacity"), key=lambda r: r[1]):
        points.append((row[1], book.median(row, "per_second"), book.percentile(row, 50) / 1000,
                       book.percentile(row, 99) / 1000))
    if len(points) < 3:
        return None
    data, plot = blocks([("runs done a second", points, "using 1:2 with linespoints lw 2"),
                         ("p50, ms", points, "using 1:3 axes x1y2 with linespoints lw 2 dt 2"),
                         ("p99, ms", points, "using 1:4 axes x1y2 with linespoints lw 2")])
    return (STYLE + data + "set title 'More load than can be done: Python, open loop'\nset xlabel 'offered load, times capacity'\n"
            "set ylabel 'runs done a second'\nset y2label 'ms, when done (logarithmic)'\nset logscale y2\nset y2tics\n"
            "set yrange [0:*]\nset key outside bottom horizontal\n" + plot)


def catalog(book):
    names = {"get": "GET of one", "list of 10": "GET of a page of 10", "record": "GET of an execution"}
    series = []
    for kind, title in names.items():
        points = [(int(row[1].rsplit(", ", 1)[1].split()[0].replace(",", "")), book.median(row, "per_second"))
                  for row in book.rows if row[0] == "catalog" and row[1].startswith(kind + ",")]
        if len(points) > 1:
            series.append((title, sorted(points), "using 1:2 with linespoints lw 2"))
    base = book.median(("catalog", "return 200"), "per_second")
    if not series or not base:
        return None
    series.append(("nginx return 200", [(1, base), (1000000, base)], "using 1:2 with lines dt 2"))
    data, plot = blocks(series)
    return (STYLE + data + "set title 'Reads, by how much there is'\nset xlabel 'skills, or executions, in the store'\n"
            "set ylabel 'requests a second'\nset logscale x\nset yrange [0:*]\nset key bottom right\n" + plot)


def draw(out, book):
    """A file for each plot there are figures for."""
    scripts = {"python": distribution(book, "python", "One line of Python"),
               "node": distribution(book, "node", "One line of JavaScript"),
               "bash": distribution(book, "bash", "One line of Bash"),
               "saturation": saturation(book), "catalog": catalog(book)}
    program = shutil.which("gnuplot")
    if program is None:
        print("bench: no plots: there is no gnuplot (Debian: gnuplot-nox)", file=sys.stderr)
        return
    for name, script in scripts.items():
        if script is None:
            continue
        file = out / f"{name}.svg"
        done = subprocess.run([program], input=f"{script}", capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 or not done.stdout:
            print(f"bench: the plot {name} failed: {done.stderr[-300:]}", file=sys.stderr)
            continue
        file.write_text(done.stdout)
