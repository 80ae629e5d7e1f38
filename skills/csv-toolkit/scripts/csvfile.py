"""What the scripts share: opening CSV files and failing with a clear message."""

import contextlib
import csv
import sys

csv.field_size_limit(16 * 1024 * 1024)


def fail(message, status=1):
    print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {message}", file=sys.stderr)
    sys.exit(status)


def find_delimiter(sample):
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


@contextlib.contextmanager
def rows_of(path, delimiter=None):
    """An iterator over the file's rows (lists of cells); ends the program when it can't be read."""
    if delimiter is not None and len(delimiter) != 1:
        fail("--delimiter must be one character", 2)
    try:
        with open(path, encoding="utf-8-sig", newline="") as f:
            sample = f.read(65536)
            f.seek(0)
            yield csv.reader(f, delimiter=delimiter or find_delimiter(sample))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        fail(f"{path}: {e}")


def header_of(rows, path):
    header = next(rows, None)
    if not header:
        fail(f"{path}: there is no header line")
    return header


@contextlib.contextmanager
def output(path):
    """stdout, or a file that is written newly."""
    if path is None:
        yield sys.stdout
        return
    try:
        with open(path, "w", encoding="utf-8", newline="") as f:
            yield f
    except OSError as e:
        fail(f"{path}: {e}")
