#!/bin/bash
# Condenses a log; SKILL.md has input and output.  Bash and awk only.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
input=/sandbox/input.json
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
    printf 'log-digest: %s\n' "$1" >&2
    exit 1
}

# The member `log` is decoded into the file, the others come back as words.
top=10
source=stdin
while read -r name value; do
    case $name in
    log) source=input ;;
    top) top=$value ;;
    esac
done < <(awk -v log_file="$log" -f "$here/input.awk" "$input")

[[ $top =~ ^([1-9][0-9]?|100)$ ]] || fail "'top' must be an integer from 1 to 100"

if [[ $source == stdin ]]; then
    cat >"$log"
    # without a stdin of its own a run reads its input there
    if cmp -s "$log" "$input"; then
        fail "give the log as the string 'log' or as stdin"
    fi
fi
[[ -s $log ]] || fail "the log is empty"

awk -v top="$top" -v json="$SANDBOX_OUTPUT" \
    -v errors="$SANDBOX_FILES_DIR/errors.log" -v digest="$SANDBOX_FILES_DIR/digest.txt" \
    -f "$here/digest.awk" "$log"
