#!/usr/bin/env python3
"""Finds what is wrong with a CSV file: ragged rows, repeated or empty columns, stray blanks."""

import argparse
import json
import sys

from csvfile import header_of, rows_of

MAX_LISTED = 20


def check(path, delimiter):
    ragged, blanks, rows = [], 0, 0
    with rows_of(path, delimiter) as reader:
        header = header_of(reader, path)
        filled = [0] * len(header)
        for row in reader:
            if not row:
                continue
            rows += 1
            if len(row) != len(header):
                ragged.append({"line": reader.line_num, "cells": len(row)})
            for i, cell in enumerate(row[: len(header)]):
                filled[i] += cell != ""
                blanks += cell != cell.strip()
    return {
        "rows": rows,
        "columns": header,
        "duplicate_columns": sorted({c for c in header if header.count(c) > 1}),
        "empty_columns": [c for c, n in zip(header, filled) if n == 0],
        "ragged_rows": len(ragged),
        "first_ragged": ragged[:MAX_LISTED],
        "cells_with_blanks": blanks,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--delimiter", help="one character; default: found by itself")
    args = parser.parse_args()
    report = check(args.file, args.delimiter)
    report["ok"] = not (report["ragged_rows"] or report["duplicate_columns"])
    json.dump(report, sys.stdout, ensure_ascii=False)
    print()
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
