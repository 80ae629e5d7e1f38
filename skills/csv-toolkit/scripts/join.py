#!/usr/bin/env python3
"""Joins two CSV files on a column they share; the right file is held in memory."""

import argparse
import csv
import sys

from csvfile import fail, header_of, output, rows_of


def load(path, key, delimiter):
    """The right file's other columns, and its rows by key."""
    with rows_of(path, delimiter) as rows:
        header = header_of(rows, path)
        if key not in header:
            fail(f"{path}: there is no column '{key}'", 2)
        at = header.index(key)
        by_key = {}
        for row in rows:
            if row:
                row += [""] * (len(header) - len(row))
                by_key.setdefault(row[at], []).append(row[:at] + row[at + 1 : len(header)])
        return header[:at] + header[at + 1 :], by_key


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("left")
    parser.add_argument("right")
    parser.add_argument("--on", required=True, metavar="COLUMN")
    parser.add_argument("--keep", action="store_true", help="keep left rows without a partner")
    parser.add_argument("--delimiter", help="one character, of both files; default: found by itself")
    parser.add_argument("--out", help="default: stdout")
    args = parser.parse_args()
    right_header, by_key = load(args.right, args.on, args.delimiter)
    with rows_of(args.left, args.delimiter) as rows:
        header = header_of(rows, args.left)
        if args.on not in header:
            fail(f"{args.left}: there is no column '{args.on}'", 2)
        at = header.index(args.on)
        nothing = [[""] * len(right_header)] if args.keep else []
        joined = alone = 0
        with output(args.out) as f:
            writer = csv.writer(f, lineterminator="\n")
            # a name both files have is told apart by the right one's prefix
            writer.writerow(header + [f"right.{c}" if c in header else c for c in right_header])
            for row in rows:
                if not row:
                    continue
                row += [""] * (len(header) - len(row))
                partners = by_key.get(row[at])
                alone += partners is None
                for partner in partners or nothing:
                    writer.writerow(row + partner)
                    joined += 1
    print(f"{joined} rows, {alone} of the left file without a partner", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
