"""What a fuzzer's random numbers make of good input: JSON, bytes, numbers, multipart, FastCGI.

Everything takes a random.Random, so that a seed names the whole series.
"""

import json
import string

ODD_STRINGS = ["", " ", "\0", "a\0b", "\n", "\r\nX: y", "..", "../../etc/passwd", "/", "\\", "%00", "%s%n", "'", '"',
               "\u202e", "\ud800", "\U0001f600", "\ufffd", "é" * 40, "latest", "null", "-1", "1e999", "{}", "[]",
               "A" * 129, "A" * 1025, "a" * 70000, "1.0.0", "1.0.0-", "99999999999999999999.0.0", "..%2f", "*"]
ODD_NUMBERS = [0, -1, 1, 2, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -2**63 - 1, 10**40, 0.5, -0.0,
               1e308, 1e-308]
ODD_WORDS = ["NaN", "Infinity", "-", "01", "1.", "tru", "nul", "'x'", "{", "[", "]", ",", "\"\\u12\"", "\"\\ud800\"",
             "\"\x01\"", "/**/1", "1 2", "{\"a\":1,\"a\":2}", "[" * 3000, "{\"a\":" * 3000]


def chance(rng, of):
    return rng.randrange(of) == 0


def odd_value(rng):
    return rng.choice([lambda: rng.choice(ODD_STRINGS), lambda: rng.choice(ODD_NUMBERS),
                       lambda: rng.choice([None, True, False]), lambda: [], lambda: {},
                       lambda: [rng.choice(ODD_STRINGS)] * rng.randrange(1, 300),
                       lambda: {rng.choice(ODD_STRINGS): rng.choice(ODD_NUMBERS)},
                       lambda: nested(rng.randrange(1, 200))])()


def nested(depth):
    value = 1
    for i in range(depth):
        value = [value] if i % 2 else {"a": value}
    return value


def json_value(rng, value):
    """The value with none, one or a few of its parts changed."""
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 4])):
        value = change_one(rng, value)
    return value


def change_one(rng, value):
    if isinstance(value, dict) and value and not chance(rng, 12):
        value = dict(value)
        key = rng.choice(list(value))
        how = rng.randrange(6)
        if how == 0:
            del value[key]
        elif how == 1:
            value[rng.choice(ODD_STRINGS)] = odd_value(rng)
        elif how == 2:
            value[key + rng.choice(["", "_", "\0", "s"])] = odd_value(rng)
        else:
            value[key] = change_one(rng, value[key])
        return value
    if isinstance(value, list) and value and not chance(rng, 8):
        value = list(value)
        at = rng.randrange(len(value))
        value[at:at + 1] = rng.choice([[], [odd_value(rng)], [value[at]] * rng.randrange(2, 80),
                                       [change_one(rng, value[at])]])
        return value
    return odd_value(rng)


def json_text(rng, value):
    """JSON of a changed value, as a rule valid."""
    value = json_value(rng, value)
    text = json.dumps(value, ensure_ascii=chance(rng, 2), indent=rng.choice([None, None, 1]))
    data = text.encode("utf-8", "surrogatepass")
    how = rng.randrange(24)
    if how == 0:  # a word that is no JSON where a value is
        at = data.find(b":") + 1
        return data[:at] + rng.choice(ODD_WORDS).encode() + data[at:]
    if how == 1:
        return rng.choice([b"", b"\xef\xbb\xbf" + data, b"\xff\xfe" + data, data + b"\0", data + data, b" " * 5000 + data,
                           data.replace(b",", b",,", 1), data.decode("utf-8", "replace").encode("utf-16")])
    if how == 2:
        return flip(rng, data)
    if how == 3 and isinstance(value, dict) and value:  # a member twice
        key = json.dumps(rng.choice(list(value))).encode("utf-8", "surrogatepass")
        return b"{" + key + b":" + rng.choice(ODD_WORDS).encode() + b"," + data[1:]
    return data


def flip(rng, data, most=4):
    """Bytes changed, cut out, doubled, put in."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, most + 1)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0 and data:
            data[at % len(data)] = rng.choice([0, 255, 13, 10, 32, 127, data[at % len(data)] ^ 1 << rng.randrange(8)])
        elif how == 1:
            del data[at:at + rng.choice([1, 2, 8, 100, len(data)])]
        elif how == 2:
            data[at:at] = data[at:at + rng.choice([1, 8, 100])]
        elif how == 3:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 16])))
        elif how == 4:
            data[at:at] = rng.choice([b"\r\n", b"\r\n\r\n", b"\0", b"%", b"--", b":", b"\xf0\x9f", b"9" * 30])
        else:
            data[at:at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"])
    return bytes(data)


def word(rng, most=12):
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randrange(1, most + 1)))


def number_text(rng):
    return str(rng.choice([0, 1, 2, 3, 10, 50, 200, 201, -1, "+1", "0x10", " 1", "1 ", "", "1.5", "1e3", 2**31, 2**63, 2**64,
                           "9" * 400, "٣"]))


def byte_range(rng):
    spec = rng.choice(["0-0", "-1", "5-", "0-", "2-1", "-0", "0-0,2-3", "99999999999999999999-", "-99999999999999999999",
                       "0-9223372036854775807", "a-b", "", "-", ",".join("0-1" for _ in range(300)), "0-1," * 50, " 0 - 1 "])
    return rng.choice(["bytes=", "bytes=", "bytes=", "Bytes=", "lines=", ""]) + spec


def multipart(rng, parts):
    """(content type, body) of a form with parts [(name, filename or None, data)]; often broken."""
    boundary = rng.choice([word(rng), "x" * 70, "x" * 71, "x" * 300, "a b", "--", "=_'()+,-./:?", "", word(rng)])
    mark = b"--" + boundary.encode()
    body = b"preamble\r\n" if chance(rng, 8) else b""
    if chance(rng, 10):
        parts = parts * rng.choice([2, 20, 300])
    for name, filename, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename is not None:
            head += f'; filename="{filename}"'
        if chance(rng, 10):
            head = rng.choice([head.replace('"', ""), head.replace("form-data", "attachment"), head + "; filename*=UTF-8''a%00",
                               "X: " + "y" * 9000, "", ":", head.replace(":", "", 1), head + '; name="other"', head + ";" * 500])
        if chance(rng, 8):
            data = data + b"\r\n" + mark[:rng.randrange(len(mark) + 1)]
        body += mark + b"\r\n" + head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + data + b"\r\n"
    body += mark + rng.choice([b"--\r\n", b"--\r\n", b"--\r\n", b"--", b"", b"\r\n", b"--\r\nepilogue", b"- -"])
    if chance(rng, 8):
        body = rng.choice([body.replace(b"\r\n", b"\n"), flip(rng, body), body[:rng.randrange(len(body) + 1)]])
    form = rng.choice([f"multipart/form-data; boundary={boundary}"] * 4 + [f'multipart/form-data; boundary="{boundary}"',
                      "multipart/form-data", "multipart/form-data; boundary", 'multipart/form-data; boundary="' + boundary,
                      f"multipart/mixed; boundary={boundary}", f"multipart/form-data; boundary={boundary}; boundary=other"])
    return form, body
