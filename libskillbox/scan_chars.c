/*
 * scan_chars.c - characters that people don't see and agents do.
 *
 * Not every one is a trick: emoji are joined by U+200D, Persian and Indic words
 * need U+200C and U+200D, some flags are spelled in the tags block, Arabic and
 * Hebrew text has marks of direction.  So what stands around it decides.
 */
#include "scan_internal.h"

#include <stdint.h>
#include <string.h>

#include "buf.h"

#define BLACK_FLAG 0x1f3f4u
#define TAG_END    0xe007fu

static const scan_rule_t tags = {
    .id = "invisible-tags",
    .category = "invisible",
    .severity = SB_FINDING_WARNING,
    .message = "invisible characters that spell a text which only programs read (tags block)",
    .remediation = "Delete them; an editor that shows code points finds them.",
};
static const scan_rule_t direction = {
    .id = "direction-override",
    .category = "invisible",
    .severity = SB_FINDING_WARNING,
    .message = "characters that change the direction of text: it is shown in another order than it "
               "is read",
    .remediation = "Delete them, or write them as escapes.",
};
static const scan_rule_t direction_rtl = {
    .id = "direction-marks",
    .category = "invisible",
    .severity = SB_FINDING_NOTE,
    .message = "characters that change the direction of text, among letters written right to left",
    .remediation = "Check that the line reads as it looks.",
};
static const scan_rule_t zero_width = {
    .id = "zero-width",
    .category = "invisible",
    .severity = SB_FINDING_WARNING,
    .message = "a character without width inside a word: the word is not what it looks like",
    .remediation = "Delete it.",
};
static const scan_rule_t zero_width_loose = {
    .id = "zero-width-space",
    .category = "invisible",
    .severity = SB_FINDING_NOTE,
    .message = "a character without width",
    .remediation = "Delete it.",
};

/* The code point at p; *n its bytes (1 and the byte itself when it is ill-formed). */
static uint32_t decode(const char *p, size_t avail, size_t *n)
{
    const unsigned char *s = (const unsigned char *)p;

    *n = sb_utf8_len(s, avail);
    switch (*n) {
    case 2:
        return (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    case 3:
        return (uint32_t)(s[0] & 0x0f) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    case 4:
        return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3f) << 12 |
               (uint32_t)(s[2] & 0x3f) << 6 | (s[3] & 0x3f);
    default:
        *n = 1;
        return s[0];
    }
}

static bool is_tag(uint32_t c)
{
    return c >= 0xe0000 && c <= 0xe007f;
}

static bool is_direction(uint32_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static bool is_zero_width(uint32_t c)
{
    return c == 0x200b || c == 0x200c || c == 0x200d || c == 0x180e || c == 0xfeff ||
           (c >= 0x2060 && c <= 0x2064);
}

static bool is_right_to_left(uint32_t c)
{
    return (c >= 0x0590 && c <= 0x08ff) || (c >= 0xfb1d && c <= 0xfefc);
}

static bool is_word(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_';
}

/* Has the line around it letters that are written right to left? */
static bool right_to_left_line(const scan_file_t *f, size_t at)
{
    size_t start = at, n;

    while (start > 0 && f->text[start - 1] != '\n' && at - start < 1024) {
        start--;
    }
    for (size_t i = start; i < f->len && f->text[i] != '\n' && i - start < 2048; i += n) {
        if (is_right_to_left(decode(f->text + i, f->len - i, &n))) {
            return true;
        }
    }
    return false;
}

static void judge_zero_width(const scan_file_t *f, size_t at, size_t n, uint32_t c)
{
    bool inside = at > 0 && at + n < f->len && is_word((unsigned char)f->text[at - 1]) &&
                  is_word((unsigned char)f->text[at + n]);

    if (at == 0 && c == 0xfeff) {
        return; /* a byte order mark */
    }
    if (inside) {
        sb_scan_report(f, &zero_width, at);
    } else if (c != 0x200c && c != 0x200d) {
        sb_scan_report(f, &zero_width_loose, at);
    }
}

void sb_scan_chars(const scan_file_t *f)
{
    bool flag = false; /* inside of a flag that is spelled in tags */
    size_t n;

    for (size_t i = 0; i < f->len; i += n) {
        if ((unsigned char)f->text[i] < 0xc2) { /* ASCII, or no beginning of a character */
            n = 1;
            flag = false;
            continue;
        }
        uint32_t c = decode(f->text + i, f->len - i, &n);
        if (is_tag(c) && !flag) {
            sb_scan_report(f, &tags, i);
        } else if (is_direction(c)) {
            sb_scan_report(f, right_to_left_line(f, i) ? &direction_rtl : &direction, i);
        } else if (is_zero_width(c)) {
            judge_zero_width(f, i, n, c);
        }
        flag = c == BLACK_FLAG || (flag && is_tag(c) && c != TAG_END);
    }
}
