'use strict';
// Counts words, characters, lines and sentences; SKILL.md has input and output.

const fs = require('fs');
const path = require('path');

class BadInput extends Error {}

function loadInput() {
  const text = process.env.SANDBOX_INPUT ?? fs.readFileSync('/sandbox/input.json', 'utf8');
  let data;
  try {
    data = JSON.parse(text);
  } catch (e) {
    throw new BadInput(`the input is not JSON: ${e.message}`);
  }
  if (data === null || typeof data !== 'object' || typeof data.text !== 'string') {
    throw new BadInput("the input must be an object with the string 'text'");
  }
  return data;
}

function integer(data, name, fallback, low, high) {
  const value = data[name] ?? fallback;
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new BadInput(`'${name}' must be an integer from ${low} to ${high}`);
  }
  return value;
}

function segmenter(locale, granularity) {
  try {
    return new Intl.Segmenter(locale, { granularity });
  } catch (e) {
    throw new BadInput(`'locale' is not a language tag: ${locale}`);
  }
}

function countWhere(segments, wanted) {
  let n = 0;
  for (const s of segments) {
    if (wanted(s)) {
      n++;
    }
  }
  return n;
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function countWords(text, locale) {
  const counts = new Map();
  let total = 0;
  for (const s of segmenter(locale, 'word').segment(text)) {
    if (s.isWordLike) {
      const word = s.segment.toLowerCase();
      counts.set(word, (counts.get(word) ?? 0) + 1);
      total++;
    }
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || compare(a[0], b[0]));
  return { total, sorted };
}

function lineCount(text) {
  if (text === '') {
    return 0;
  }
  const lines = text.split(/\r\n|\r|\n/);
  return lines[lines.length - 1] === '' ? lines.length - 1 : lines.length;
}

function count(data) {
  const { text, locale = 'en' } = data;
  const top = integer(data, 'top', 10, 0, 100);
  const minLength = integer(data, 'min_length', 1, 1, 50);
  if (typeof locale !== 'string') {
    throw new BadInput("'locale' must be a string");
  }
  const { total, sorted } = countWords(text, locale);
  const result = {
    words: total,
    unique_words: sorted.length,
    characters: countWhere(segmenter(locale, 'grapheme').segment(text), () => true),
    bytes: Buffer.byteLength(text),
    lines: lineCount(text),
    sentences: countWhere(segmenter(locale, 'sentence').segment(text), (s) => s.segment.trim() !== ''),
    top: sorted
      .filter(([word]) => [...word].length >= minLength)
      .slice(0, top)
      .map(([word, n]) => ({ word, count: n })),
  };
  return { result, sorted };
}

function main() {
  let counted;
  try {
    counted = count(loadInput());
  } catch (e) {
    if (e instanceof BadInput) {
      console.error(`word-counter: ${e.message}`);
      return 1;
    }
    throw e;
  }
  const rows = counted.sorted.map(([word, n]) => `"${word.replaceAll('"', '""')}",${n}\n`);
  fs.writeFileSync(path.join(process.env.SANDBOX_FILES_DIR, 'words.csv'), `word,count\n${rows.join('')}`);
  fs.writeFileSync(process.env.SANDBOX_OUTPUT, JSON.stringify(counted.result));
  return 0;
}

process.exitCode = main();
