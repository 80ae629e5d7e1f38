"""Extractive summary; SKILL.md has input and output."""

import json
import math
import os
import re
import sys

MAX_TEXT = 2_000_000
WORDS_A_MINUTE = 200
# a sentence ends with . ! ? (and quotes or brackets behind), before a blank and no lower-case letter
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?![a-zäöüß])|\n\s*\n")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
ABBREVIATIONS = {"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "etc.", "e.g.", "i.e.", "no.", "fig.", "z.b.", "u.a.", "ca.", "bzw."}
STOP_WORDS = set(
    """a about above after again all also am an and any are as at be because been before being below between both
    but by can could did do does doing down during each few for from further had has have having he her here hers him
    his how i if in into is it its itself just me more most my no nor not now of off on once only or other our out over
    own same she should so some such than that the their them then there these they this those through to too under
    until up very was we were what when where which while who whom why will with would you your
    aber als am an auch auf aus bei bin bis das dass dem den der des die du durch ein eine einem einen einer eines er es
    für hat hatte ich im in ist ja mit nach nicht noch nur ob oder sein sich sie sind so über um und uns unter vom von
    vor war waren was wenn wer wie wir wird wurde zu zum zur""".split()
)


class BadInput(Exception):
    """The caller's input can't be used; the text says why."""


def load_input():
    text = os.environ.get("SANDBOX_INPUT")
    if text is None:
        with open("/sandbox/input.json", encoding="utf-8") as f:
            text = f.read()
    try:
        data = json.loads(text)
    except ValueError as e:
        raise BadInput(f"the input is not JSON: {e}") from None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise BadInput("the input must be an object with the string 'text'")
    if not data["text"].strip():
        raise BadInput("'text' is empty")
    if len(data["text"]) > MAX_TEXT:
        raise BadInput(f"'text' has more than {MAX_TEXT} characters")
    return data


def integer(data, name, default, low, high):
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(f"'{name}' must be an integer from {low} to {high}")
    return value


def split_sentences(text):
    sentences = []
    for piece in SENTENCE_END.split(text):
        piece = " ".join(piece.split())
        if not piece:
            continue
        # a piece behind an abbreviation belongs to the sentence before
        if sentences and sentences[-1].rsplit(" ", 1)[-1].lower() in ABBREVIATIONS:
            sentences[-1] += " " + piece
        else:
            sentences.append(piece)
    return sentences


def content_words(sentence):
    return [w for w in (m.group().lower() for m in WORD.finditer(sentence)) if len(w) > 2 and w not in STOP_WORDS]


def score(words, weights, position, total):
    """Mean weight of its words, a little more for the beginning, less for fragments."""
    if not words:
        return 0.0
    mean = sum(weights[w] for w in words) / (len(words) + 3)
    lead = 1.15 if position == 0 else 1.05 if position < total * 0.1 else 1.0
    return mean * lead * min(1.0, len(words) / 4)


def summarise(text, keep, nkeywords):
    sentences = split_sentences(text)
    words = [content_words(s) for s in sentences]
    counts = {}
    for sentence in words:
        for word in sentence:
            counts[word] = counts.get(word, 0) + 1
    weights = {word: 1 + math.log(n) for word, n in counts.items()}
    scores = [score(w, weights, i, len(sentences)) for i, w in enumerate(words)]
    best = sorted(sorted(range(len(sentences)), key=lambda i: (-scores[i], i))[:keep])
    nwords = len(WORD.findall(text))
    return {
        "summary": " ".join(sentences[i] for i in best),
        "sentences": [{"index": i, "text": sentences[i]} for i in best],
        "keywords": sorted(counts, key=lambda w: (-counts[w], w))[:nkeywords],
        "statistics": {
            "characters": len(text),
            "words": nwords,
            "sentences": len(sentences),
            "reading_minutes": round(nwords / WORDS_A_MINUTE, 1),
        },
    }


def main():
    try:
        data = load_input()
        keep = integer(data, "sentences", 3, 1, 50)
        nkeywords = integer(data, "keywords", 8, 0, 50)
    except BadInput as e:
        print(f"text-summary: {e}", file=sys.stderr)
        return 1
    result = summarise(data["text"], keep, nkeywords)
    with open(os.path.join(os.environ["SANDBOX_FILES_DIR"], "summary.txt"), "w", encoding="utf-8") as f:
        f.writelines(s["text"] + "\n" for s in result["sentences"])
    with open(os.environ["SANDBOX_OUTPUT"], "w", encoding="utf-8") as f:
        json.dump(result, f, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
