"""Describes a table of records or CSV text; SKILL.md has input and output."""

import csv
import io
import json
import math
import os
import statistics
import sys

from chart import bar_chart

MAX_ROWS = 200_000
MAX_COLUMNS = 500
MAX_NUMBER = 1e100  # far enough from where squares and sums overflow
TOP = 5
BINS = 10


class BadInput(Exception):
    """The caller's input can't be used; the text says why."""


def load_input():
    """The input JSON: the environment has it unless it was too long for that."""
    text = os.environ.get("SANDBOX_INPUT")
    if text is None:
        with open("/sandbox/input.json", encoding="utf-8") as f:
            text = f.read()
    try:
        data = json.loads(text)
    except ValueError as e:
        raise BadInput(f"the input is not JSON: {e}") from None
    if not isinstance(data, dict):
        raise BadInput("the input must be an object with 'records' or 'csv'")
    return data


def number(text):
    """A CSV cell as a number, None when it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def rows_from_csv(text, delimiter):
    if not isinstance(text, str) or not text.strip():
        raise BadInput("'csv' must be a string with a header line")
    if delimiter is None:
        try:
            delimiter = csv.Sniffer().sniff(text[:8192], delimiters=",;\t").delimiter
        except csv.Error:
            delimiter = ","
    elif not isinstance(delimiter, str) or len(delimiter) != 1:
        raise BadInput("'delimiter' must be one character")
    try:
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, restval=""))
    except csv.Error as e:
        raise BadInput(f"the CSV can't be read: {e}") from None
    for row in rows:
        row.pop(None, None)  # cells beyond the header
    # a column of which everything is a number becomes one
    for column in list(rows[0]) if rows else []:
        cells = [(row[column] or "").strip() for row in rows]
        present = [c for c in cells if c]
        numbers = [number(c) for c in present]
        numeric = bool(present) and None not in numbers
        for row, cell in zip(rows, cells):
            row[column] = (number(cell) if numeric else cell) if cell else None
    return rows


def load_rows(data):
    if "records" in data:
        rows = data["records"]
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise BadInput("'records' must be a list of objects")
    elif "csv" in data:
        rows = rows_from_csv(data["csv"], data.get("delimiter"))
    else:
        raise BadInput("give the table as 'records' (list of objects) or 'csv' (text)")
    if not rows:
        raise BadInput("the table has no rows")
    if len(rows) > MAX_ROWS:
        raise BadInput(f"the table has {len(rows)} rows, {MAX_ROWS} are possible")
    return rows


def column_names(rows, wanted):
    names = list(dict.fromkeys(key for row in rows for key in row))
    if wanted is not None:
        if not isinstance(wanted, list) or not all(isinstance(c, str) for c in wanted):
            raise BadInput("'columns' must be a list of column names")
        for column in wanted:
            if column not in names:
                raise BadInput(f"there is no column '{column}'; there are: {', '.join(names)}")
        names = wanted
    if not names:
        raise BadInput("the table has no columns")
    if len(names) > MAX_COLUMNS:
        raise BadInput(f"the table has {len(names)} columns, {MAX_COLUMNS} are possible")
    return names


def is_number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def is_missing(value):
    return value is None or value == ""


def tidy(value):
    """Six decimal places, and an integer where it is one."""
    value = round(value, 6)
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def quantile(ordered, q):
    at = (len(ordered) - 1) * q
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def describe_numbers(values):
    ordered = sorted(values)
    return {
        "sum": tidy(math.fsum(values)),
        "mean": tidy(statistics.fmean(values)),
        "median": tidy(quantile(ordered, 0.5)),
        "stdev": tidy(statistics.stdev(values)) if len(values) > 1 else 0,
        "min": tidy(ordered[0]),
        "p25": tidy(quantile(ordered, 0.25)),
        "p75": tidy(quantile(ordered, 0.75)),
        "max": tidy(ordered[-1]),
    }


def describe_texts(values):
    counts = {}
    for value in values:
        text = as_text(value)
        counts[text] = counts.get(text, 0) + 1
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP]
    return {"distinct": len(counts), "top": [{"value": v, "count": n} for v, n in top]}


def describe(rows, column):
    present = [row[column] for row in rows if not is_missing(row.get(column))]
    numeric = bool(present) and all(is_number(v) for v in present)
    if numeric and max(abs(v) for v in present) > MAX_NUMBER:
        raise BadInput(f"column '{column}' has numbers beyond {MAX_NUMBER:g}")
    facts = {
        "type": "number" if numeric else "text",
        "count": len(present),
        "missing": len(rows) - len(present),
    }
    facts.update(describe_numbers(present) if numeric else describe_texts(present))
    return facts


def describe_groups(rows, group_by, columns):
    groups = {}
    for row in rows:
        value = row.get(group_by)
        groups.setdefault("(missing)" if is_missing(value) else as_text(value), []).append(row)
    numeric = [c for c, facts in columns.items() if facts["type"] == "number" and c != group_by]
    result = {}
    for name in sorted(groups):
        means = {}
        for column in numeric:
            values = [r[column] for r in groups[name] if not is_missing(r.get(column))]
            if values:
                means[column] = tidy(statistics.fmean(values))
        result[name] = {"rows": len(groups[name]), "mean": means}
    return result


def histogram(values):
    low, high = min(values), max(values)
    if low == high:
        return [(f"{low:g}", len(values))]
    width = (high - low) / BINS
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    return [(f"{low + i * width:g} to {low + (i + 1) * width:g}", n) for i, n in enumerate(counts)]


def choose_chart(rows, result, wanted):
    """Title and bars of what there is to show."""
    columns = result["columns"]
    numeric = [c for c, facts in columns.items() if facts["type"] == "number"]
    if wanted is not None and (not isinstance(wanted, str) or wanted not in columns):
        raise BadInput(f"there is no column '{wanted}' for the chart")
    column = wanted if wanted is not None else (numeric or list(columns))[0]
    if "groups" in result and column in numeric:
        bars = [(name, g["mean"][column]) for name, g in result["groups"].items() if column in g["mean"]]
        return f"mean {column} by {result['group_by']}", bars
    if column in numeric:
        values = [row[column] for row in rows if not is_missing(row.get(column))]
        return f"distribution of {column}", histogram(values)
    return f"most frequent {column}", [(t["value"], t["count"]) for t in columns[column]["top"]]


def table(header, lines):
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in line] for line in lines]
    out = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return out + ["| " + " | ".join(line) + " |" for line in cells]


def write_summary(path, result):
    columns = result["columns"]
    numeric = {c: f for c, f in columns.items() if f["type"] == "number"}
    text = {c: f for c, f in columns.items() if f["type"] == "text"}
    out = ["# Summary", "", f"{result['rows']} rows, {len(columns)} columns.", ""]
    if numeric:
        keys = ["count", "missing", "mean", "median", "stdev", "min", "max"]
        out += ["## Numbers", ""]
        out += table(["column"] + keys, [[c] + [f[k] for k in keys] for c, f in numeric.items()])
        out.append("")
    if text:
        out += ["## Text", ""]
        lines = [
            [c, f["count"], f["missing"], f["distinct"], ", ".join(f"{t['value']} ({t['count']})" for t in f["top"])]
            for c, f in text.items()
        ]
        out += table(["column", "count", "missing", "distinct", "most frequent"], lines) + [""]
    if "groups" in result:
        out += [f"## By {result['group_by']}", ""]
        means = list(dict.fromkeys(c for g in result["groups"].values() for c in g["mean"]))
        lines = [[name, g["rows"]] + [g["mean"].get(c, "") for c in means] for name, g in result["groups"].items()]
        out += table([result["group_by"], "rows"] + [f"mean {c}" for c in means], lines) + [""]
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out))


def analyse(data):
    rows = load_rows(data)
    group_by = data.get("group_by")
    names = column_names(rows, data.get("columns"))
    if group_by is not None and not isinstance(group_by, str):
        raise BadInput("'group_by' must be a column's name")
    if group_by is not None and group_by not in column_names(rows, None):
        raise BadInput(f"there is no column '{group_by}' to group by")
    result = {"rows": len(rows), "columns": {c: describe(rows, c) for c in names}}
    if group_by is not None:
        result["group_by"] = group_by
        result["groups"] = describe_groups(rows, group_by, result["columns"])
    return rows, result


def main():
    try:
        data = load_input()
        rows, result = analyse(data)
        title, bars = choose_chart(rows, result, data.get("chart"))
    except BadInput as e:
        print(f"data-analysis: {e}", file=sys.stderr)
        return 1
    files = os.environ["SANDBOX_FILES_DIR"]
    write_summary(os.path.join(files, "summary.md"), result)
    with open(os.path.join(files, "chart.svg"), "w", encoding="utf-8") as f:
        f.write(bar_chart(title, bars))
    with open(os.environ["SANDBOX_OUTPUT"], "w", encoding="utf-8") as f:
        json.dump(result, f, ensure_ascii=False)
    print(f"{result['rows']} rows, {len(result['columns'])} columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
