/*
 * journal.c - see journal.h.
 *
 *   batch   magic, first half of the SHA-256 of all that follows, seq, length of the entries;
 *           the entries
 *   entry   lengths of: itself, its texts, its result, its log; created, finished;
 *           tenant NUL id NUL skill NUL status NUL inputs NUL; result; log
 */
#include "journal.h"

#include <string.h>

#include "signature.h"

#define SUM_LEN 16
#define TEXTS   5

typedef struct {
    char magic[8];
    unsigned char sum[SUM_LEN];
    uint64_t seq;
    uint64_t len;
} head_t;

typedef struct {
    uint32_t len, texts, result, logs;
    int64_t created_ms, finished_ms;
} entry_t;

static const char magic[8] = "SBRUNS1";

/* Of what stands behind the sum. */
static void sum_of(const char *data, size_t len, unsigned char out[SUM_LEN])
{
    const size_t from = offsetof(head_t, seq);
    unsigned char hash[SB_SHA256_LEN];

    sb_sha256(data + from, len - from, hash);
    memcpy(out, hash, SUM_LEN);
}

void sb_journal_begin(sb_buf_t *buf)
{
    static const head_t nothing;

    buf->max = SB_JOURNAL_BATCH_MAX;
    sb_buf_clear(buf);
    sb_buf_add(buf, &nothing, sizeof(nothing));
}

bool sb_journal_add(sb_buf_t *buf, const sb_execution_finish_t *e)
{
    const char *const texts[TEXTS] = {e->tenant, e->id, e->skill, e->status,
                                      e->inputs != NULL ? e->inputs : ""};
    const size_t before = buf->len, most = SB_JOURNAL_ENTRY_MAX;
    entry_t entry = {.created_ms = e->created_ms, .finished_ms = e->finished_ms};
    size_t len = sizeof(entry);

    for (size_t i = 0; i < TEXTS; i++)
        len += strlen(texts[i]) + 1;
    if (len > most || e->result_len > most || e->logs_len > most || !sb_buf_ok(buf) ||
        len + e->result_len + e->logs_len > most)
        return false;
    entry.texts = (uint32_t)(len - sizeof(entry));
    entry.result = (uint32_t)e->result_len;
    entry.logs = (uint32_t)e->logs_len;
    entry.len = (uint32_t)(len + e->result_len + e->logs_len);
    if (buf->max - before < entry.len)
        return false;
    sb_buf_add(buf, &entry, sizeof(entry));
    for (size_t i = 0; i < TEXTS; i++)
        sb_buf_add(buf, texts[i], strlen(texts[i]) + 1);
    sb_buf_add(buf, e->result, e->result_len);
    sb_buf_add(buf, e->logs, e->logs_len);
    if (sb_buf_ok(buf))
        return true;
    buf->len = before; /* no memory for this one */
    buf->failed = false;
    return false;
}

void sb_journal_seal(sb_buf_t *buf, uint64_t seq)
{
    head_t head = {.seq = seq, .len = buf->len - sizeof(head)};

    memcpy(head.magic, magic, sizeof(magic));
    memcpy(buf->data, &head, sizeof(head));
    sum_of(buf->data, buf->len, head.sum);
    memcpy(buf->data, &head, sizeof(head));
}

bool sb_journal_read(const char *data, size_t len, sb_journal_batch_t *batch)
{
    unsigned char sum[SUM_LEN];
    head_t head;

    if (len < sizeof(head))
        return false;
    memcpy(&head, data, sizeof(head));
    if (memcmp(head.magic, magic, sizeof(magic)) != 0 || head.len > len - sizeof(head) ||
        head.len > SB_JOURNAL_BATCH_MAX)
        return false;
    batch->seq = head.seq;
    batch->len = sizeof(head) + (size_t)head.len;
    batch->next = data + sizeof(head);
    batch->left = (size_t)head.len;
    sum_of(data, batch->len, sum);
    return memcmp(sum, head.sum, SUM_LEN) == 0;
}

/* Points each text to its place; false when they are not as many. */
static bool read_texts(const char *data, size_t len, const char *texts[TEXTS])
{
    for (size_t i = 0; i < TEXTS; i++) {
        const char *end = memchr(data, '\0', len);

        if (end == NULL)
            return false;
        texts[i] = data;
        len -= (size_t)(end + 1 - data);
        data = end + 1;
    }
    return len == 0;
}

bool sb_journal_next(sb_journal_batch_t *batch, sb_execution_finish_t *e)
{
    const char *texts[TEXTS], *data = batch->next;
    entry_t entry;

    if (batch->left < sizeof(entry))
        return false;
    memcpy(&entry, data, sizeof(entry));
    data += sizeof(entry);
    if (entry.len > batch->left ||
        (uint64_t)sizeof(entry) + entry.texts + entry.result + entry.logs != entry.len ||
        !read_texts(data, entry.texts, texts))
        return false;
    *e = (sb_execution_finish_t){
        .tenant = texts[0],
        .id = texts[1],
        .skill = texts[2],
        .status = texts[3],
        .inputs = texts[4],
        .result = data + entry.texts,
        .result_len = entry.result,
        .logs = data + entry.texts + entry.result,
        .logs_len = entry.logs,
        .created_ms = entry.created_ms,
        .finished_ms = entry.finished_ms,
    };
    batch->next += entry.len;
    batch->left -= entry.len;
    return true;
}
