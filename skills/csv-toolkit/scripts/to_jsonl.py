#!/usr/bin/env python3
"""Turns a CSV file into JSON lines, one object a row, all values text unless --numbers."""

import argparse
import json
import math
import sys

from csvfile import header_of, output, rows_of


def as_value(cell):
    """A number where the cell is one without losing anything: not 007, not 1e5, not nan."""
    try:
        number = int(cell) if cell.lstrip("-").isdigit() else float(cell)
    except ValueError:
        return cell
    if isinstance(number, float) and not math.isfinite(number):
        return cell
    return number if str(number) == cell else cell


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--numbers", action="store_true", help="write numbers as numbers")
    parser.add_argument("--delimiter", help="one character; default: found by itself")
    parser.add_argument("--out", help="default: stdout")
    args = parser.parse_args()
    count = 0
    with rows_of(args.file, args.delimiter) as rows:
        header = header_of(rows, args.file)
        with output(args.out) as f:
            for row in rows:
                if not row:
                    continue
                cells = [as_value(c) for c in row] if args.numbers else row
                json.dump(dict(zip(header, cells)), f, ensure_ascii=False)
                f.write("\n")
                count += 1
    print(f"{count} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
