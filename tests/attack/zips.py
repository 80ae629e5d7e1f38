"""Zips written byte by byte: each number of each header can be a lie."""

import dataclasses
import struct
import zlib

LOCAL, CENTRAL, END, END64, LOCATOR64, DESCRIPTOR = (
    b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08")
STORED, DEFLATED = 0, 8
FAT, UNIX, DARWIN = 0, 3, 19
UTF8, DESCRIBED, ENCRYPTED = 0x800, 8, 1
FILE, FOLDER, LINK = 0o100644, 0o040755, 0o120777
DOS_TIME, DOS_DATE = 0, (2024 - 1980) << 9 | 1 << 5 | 1


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclasses.dataclass
class Entry:
    """One entry.  `central` and `local` have the header's fields that are to be something else there:
    version, flags, method, crc, packed, size, name, extra, offset (central only)."""
    name: bytes
    data: bytes = b"x"
    mode: int = FILE
    method: int = STORED
    flags: int = UTF8
    host: int = UNIX
    dos: int = 0            # the MS-DOS attributes
    stream: bytes = None    # instead of the data, packed
    extra: bytes = b""
    central: dict = dataclasses.field(default_factory=dict)
    local: dict = dataclasses.field(default_factory=dict)
    behind: bytes = b""     # after the data: a descriptor, or what does not belong there

    def __post_init__(self):
        if isinstance(self.name, str):
            self.name = self.name.encode()
        if isinstance(self.data, str):
            self.data = self.data.encode()
        if self.stream is None:
            self.stream = deflated(self.data) if self.method == DEFLATED else self.data

    def fields(self, over):
        return {"version": 20, "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.data),
                "packed": len(self.stream), "size": len(self.data), "name": self.name, "extra": self.extra, **over}

    def local_record(self):
        f = self.fields(self.local)
        return LOCAL + struct.pack("<HHHHHIIIHH", f["version"], f["flags"], f["method"], DOS_TIME, DOS_DATE, f["crc"],
                                   f["packed"], f["size"], len(f["name"]), len(f["extra"])) \
            + f["name"] + f["extra"] + self.stream + self.behind

    def central_record(self, offset):
        f = self.fields({"offset": offset, **self.central})
        return CENTRAL + struct.pack("<BBHHHHHIIIHHHHHII", 20, self.host, f["version"], f["flags"], f["method"], DOS_TIME,
                                     DOS_DATE, f["crc"], f["packed"], f["size"], len(f["name"]), len(f["extra"]),
                                     0, 0, 0, self.mode << 16 | self.dos, f["offset"]) + f["name"] + f["extra"]


def described(entry):
    """The entry as a writer makes it that cannot go back: sizes behind the data."""
    entry.flags |= DESCRIBED
    entry.local.update(crc=0, packed=0, size=0)
    entry.behind = DESCRIPTOR + struct.pack("<III", zlib.crc32(entry.data), len(entry.stream), len(entry.data))
    return entry


def field(number, data):
    """An extra field."""
    return struct.pack("<HH", number, len(data)) + data


def unicode_path(header_name, name):
    """Info-ZIP's: the name in UTF-8, for a header whose name is header_name."""
    return field(0x7075, struct.pack("<BI", 1, zlib.crc32(header_name)) + name)


def end_record(count, size, offset, comment=b""):
    return END + struct.pack("<HHHHIIH", 0, 0, min(count, 0xffff), min(count, 0xffff), size, offset,
                             len(comment)) + comment


def end_records64(count, size, offset, at):
    """zip64's end record, at that place, and its locator."""
    return END64 + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, offset) \
        + LOCATOR64 + struct.pack("<IQI", 0, at, 1)


def lay(entries, before=b""):
    """(all that lies before the directory, [(entry, its place)])"""
    body, placed = bytearray(before), []
    for e in entries:
        placed.append((e, len(body)))
        body += e.local_record()
    return bytes(body), placed


def assemble(body, placed, comment=b"", zip64=False, plain=None, **end):
    """A zip of these parts.  end: what its end record says instead of count, size, offset;
    plain: what the plain one says instead, with zip64."""
    directory = b"".join(e.central_record(at) for e, at in placed)
    said = {"count": len(placed), "size": len(directory), "offset": len(body), **end}
    records = end_records64(*said.values(), len(body) + len(directory)) if zip64 else b""
    return body + directory + records + end_record(*{**said, **(plain or {})}.values(), comment)


def write(entries, before=b"", **how):
    """A zip of the entries, one behind the other."""
    return assemble(*lay(entries, before), **how)
