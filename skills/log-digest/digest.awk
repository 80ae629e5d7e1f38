# Reads a log; writes the digest as JSON and as text, and the error lines.
BEGIN {
    split("emerg alert crit critical fatal panic severe err error", w)
    for (i in w) level_of[w[i]] = "error"
    level_of["warn"] = level_of["warning"] = "warning"
    level_of["info"] = level_of["notice"] = "info"
    level_of["debug"] = level_of["trace"] = "debug"
    split("error warning info debug other", names)
    for (i = 1; i <= 5; i++) rank[names[i]] = i
    iso = "[0-9][0-9][0-9][0-9][-/][0-9][0-9][-/][0-9][0-9][T ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]([.,][0-9]+)?(Z|[+-][0-9][0-9]:?[0-9][0-9])?"
    syslog = "[A-Z][a-z][a-z] +[0-9]+ [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
    max_messages = 50000
    max_errors = 10000
    printf "" > errors
}

# The first word among the line's first eight that names a level.
function find_level(line,    n, i, words) {
    n = split(tolower(line), words, /[^a-z]+/)
    for (i = 1; i <= n && i <= 8; i++) {
        if (words[i] in level_of) {
            return level_of[words[i]]
        }
    }
    return "other"
}

function quote(text) {
    gsub(/["\\]/, "\\\\&", text)
    gsub(/\t/, "\\t", text)
    gsub(/[\001-\037\177]/, "?", text)
    return "\"" text "\""
}

{
    sub(/\r$/, "")
    if ($0 == "") next
    lines++
    message = $0
    stamp = ""
    if (match(message, iso) || match(message, syslog)) {
        stamp = substr(message, RSTART, RLENGTH)
        message = substr(message, 1, RSTART - 1) substr(message, RSTART + RLENGTH)
        if (first == "") first = stamp
        last = stamp
    }
    level = find_level(message)
    levels[level]++
    if (level == "error" && kept_errors < max_errors) {
        print > errors
        kept_errors++
    }
    gsub(/0x[0-9a-fA-F]+|[0-9a-fA-F]*[0-9][0-9a-fA-F]*-[0-9a-fA-F-]+|[0-9]+([.:][0-9]+)*/, "#", message)
    gsub(/^[] \t[]+|[ \t]+$/, "", message)
    message = substr(message, 1, 200)
    if (message in count) {
        count[message]++
    } else if (messages < max_messages) {
        messages++
        count[message] = 1
        level_by[message] = level
    }
}

# Errors before warnings and so on; then the more frequent; then by text, so that the order is fixed.
function before(a, b) {
    if (rank[level_by[a]] != rank[level_by[b]]) return rank[level_by[a]] < rank[level_by[b]]
    if (count[a] != count[b]) return count[a] > count[b]
    return a < b
}

END {
    # the best `top` by repeated insertion: no sort function in POSIX awk
    n = 0
    for (m in count) {
        if (n == top && !before(m, best[n])) continue
        if (n < top) n++
        for (i = n; i > 1 && before(m, best[i - 1]); i--) best[i] = best[i - 1]
        best[i] = m
    }

    from = first == "" ? "null" : quote(first)
    to = last == "" ? "null" : quote(last)
    printf("{\"lines\":%d,\"first\":%s,\"last\":%s,\"levels\":{", lines, from, to) > json
    for (i = 1; i <= 5; i++) {
        printf("%s\"%s\":%d", (i > 1 ? "," : ""), names[i], levels[names[i]]) > json
    }
    printf("},\"top\":[") > json
    for (i = 1; i <= n; i++) {
        printf("%s{\"count\":%d,\"level\":\"%s\",\"message\":%s}", (i > 1 ? "," : ""), count[best[i]], level_by[best[i]], quote(best[i])) > json
    }
    print "]}" > json

    printf("%d lines, %s to %s\n\n", lines, (first == "" ? "?" : first), (last == "" ? "?" : last)) > digest
    for (i = 1; i <= 5; i++) {
        printf("%-8s %d\n", names[i], levels[names[i]]) > digest
    }
    printf("\nMost frequent, errors first:\n") > digest
    for (i = 1; i <= n; i++) {
        printf("%7d  %s\n", count[best[i]], best[i]) > digest
    }
    printf("%d lines, %d errors\n", lines, levels["error"])
}
