#!/usr/bin/env python3
"""Chooses columns and rows of a CSV file; references/conditions.md describes --where."""

import argparse
import csv
import operator
import re
import sys

from csvfile import fail, header_of, output, rows_of

OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def as_number(text):
    try:
        return float(text)
    except ValueError:
        return None


def condition(text, header):
    """A function of a row that tells whether the condition holds."""
    match = re.match(r"([^=!<>~]*)(<=|>=|!=|!~|=|<|>|~)(.*)", text, re.DOTALL)
    if match is None:
        fail(f"--where '{text}': no operator", 2)
    column, op, value = match[1].strip(), match[2], match[3].strip()
    if column not in header:
        fail(f"there is no column '{column}'; there are: {', '.join(header)}", 2)
    at = header.index(column)
    if op in ("~", "!~"):
        try:
            pattern = re.compile(value)
        except re.error as e:
            fail(f"--where '{text}': {e}", 2)
        return lambda row: (pattern.search(row[at]) is not None) == (op == "~")
    compare, wanted = OPERATORS[op], as_number(value)

    def holds(row):
        number = as_number(row[at])
        if wanted is not None and number is not None:
            return compare(number, wanted)
        return compare(row[at], value)

    return holds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--columns", help="names, separated by commas; default: all")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION")
    parser.add_argument("--limit", type=int, help="at most so many rows")
    parser.add_argument("--delimiter", help="one character; default: found by itself")
    parser.add_argument("--out", help="default: stdout")
    args = parser.parse_args()
    with rows_of(args.file, args.delimiter) as rows:
        header = header_of(rows, args.file)
        wanted = args.columns.split(",") if args.columns else header
        missing = [c for c in wanted if c not in header]
        if missing:
            fail(f"there is no column '{missing[0]}'; there are: {', '.join(header)}", 2)
        picks = [header.index(c) for c in wanted]
        conditions = [condition(w, header) for w in args.where]
        with output(args.out) as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(wanted)
            written = 0
            for row in rows:
                if args.limit is not None and written >= args.limit:
                    break
                row += [""] * (len(header) - len(row))
                if all(holds(row) for holds in conditions):
                    writer.writerow([row[i] for i in picks])
                    written += 1
    print(f"{written} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
