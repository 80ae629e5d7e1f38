# Reads a JSON object (valid: the gateway has parsed it).  The top-level string
# "log" is decoded into log_file and announced as "log -"; the top-level scalar
# "top" is printed as "top <text>".  Splitting at quotes keeps this linear.
BEGIN {
    RS = "\""
    for (i = 0; i < 16; i++) {
        hex[sprintf("%x", i)] = hex[sprintf("%X", i)] = i
    }
    plain["n"] = "\n"; plain["t"] = "\t"; plain["r"] = "\r"
    plain["b"] = "\b"; plain["f"] = "\f"; plain["/"] = "/"
}

function code_of(text,    i, n) {
    n = 0
    for (i = 1; i <= 4; i++) {
        n = n * 16 + hex[substr(text, i, 1)]
    }
    return n
}

function utf8(c) {
    if (c < 128) {
        return sprintf("%c", c)
    }
    if (c < 2048) {
        return sprintf("%c%c", 192 + int(c / 64), 128 + c % 64)
    }
    if (c < 65536) {
        return sprintf("%c%c%c", 224 + int(c / 4096), 128 + int(c / 64) % 64, 128 + c % 64)
    }
    return sprintf("%c%c%c%c", 240 + int(c / 262144), 128 + int(c / 4096) % 64, 128 + int(c / 64) % 64, 128 + c % 64)
}

# One piece between quotes: split at backslashes, each part but the first begins with an escape's letter.
function decode(text,    n, i, parts, out, letter, c) {
    n = split(text, parts, "\\")
    printf "%s", parts[1] > log_file
    for (i = 2; i <= n; i++) {
        letter = substr(parts[i], 1, 1)
        if (letter == "") {
            # an escaped backslash (or, at the very end, an escaped quote: the caller writes that one)
            if (i < n) {
                printf "\\%s", parts[++i] > log_file
            }
        } else if (letter == "u") {
            c = code_of(substr(parts[i], 2, 4))
            if (c >= 55296 && c < 56320) {
                high = c
            } else if (c >= 56320 && c < 57344) {
                printf "%s%s", utf8(65536 + (high - 55296) * 1024 + c - 56320), substr(parts[i], 6) > log_file
            } else if (c != 0) {
                printf "%s%s", utf8(c), substr(parts[i], 6) > log_file
            } else {
                printf "%s", substr(parts[i], 6) > log_file
            }
        } else {
            printf "%s%s", plain[letter], substr(parts[i], 2) > log_file
        }
    }
}

# Does the piece end in a quote that is escaped, i.e. in an odd number of backslashes?
function quote_is_escaped(text) {
    match(text, /\\*$/)
    return RLENGTH % 2 == 1
}

function outside(text,    i, c) {
    if (depth == 1 && text ~ /^[ \t\r\n]*:/) {
        key = name
        if (key == "top") {
            value = text
            sub(/^[ \t\r\n]*:[ \t\r\n]*/, "", value)
            sub(/[ \t\r\n]*[,}].*$/, "", value)
            print "top", value == "" ? "text" : value
        }
    } else {
        key = ""
    }
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        depth += (c == "{" || c == "[") - (c == "}" || c == "]")
        if (c == "," || c == "[" || c == "{") {
            key = ""
        }
    }
}

!inside {
    outside($0)
    inside = 1
    wanted = depth == 1 && key == "log"
    if (wanted) {
        print "log -"
    }
    name = ""
    next
}

{
    escaped = quote_is_escaped($0)
    if (wanted) {
        decode($0)
        if (escaped) {
            printf "\"" > log_file
        }
    } else if (length(name) < 64) {
        name = name $0
    }
    inside = escaped
}
