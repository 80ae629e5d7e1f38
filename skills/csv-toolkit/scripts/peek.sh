#!/bin/bash
# A first look at a CSV file: size, lines, probable delimiter, header, first rows.
set -euo pipefail

usage="usage: peek.sh FILE [ROWS]"
case ${1-} in
--help) printf '%s\n' "$usage" && exit 0 ;;
'') printf '%s\n' "$usage" >&2 && exit 2 ;;
esac
file=$1
rows=${2-5}
[[ $rows =~ ^[0-9]{1,4}$ ]] || { printf 'peek.sh: ROWS must be a number\n' >&2; exit 2; }
[[ -f $file && -r $file ]] || { printf 'peek.sh: %s: no such file\n' "$file" >&2; exit 1; }

IFS= read -r header <"$file" || [[ -n $header ]] || { printf 'peek.sh: %s: empty\n' "$file" >&2; exit 1; }
header=${header%$'\r'}

# the delimiter is the candidate that the header has most of
best=',' most=0
for candidate in ',' ';' $'\t' '|'; do
    only=${header//[^"$candidate"]/}
    if ((${#only} > most)); then
        best=$candidate most=${#only}
    fi
done
[[ $best == $'\t' ]] && name=tab || name=$best

printf 'bytes      %s\n' "$(wc -c <"$file")"
printf 'lines      %s\n' "$(wc -l <"$file")"
printf 'delimiter  %s\n' "$name"
printf 'columns    %s\n' "$((most + 1))"
printf 'header     %s\n\n' "$header"
head -n "$((rows + 1))" "$file" | tail -n +2
