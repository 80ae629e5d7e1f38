/*
 * fuzz_journal.c - a journal's batch: any bytes where a batch should be, and any bytes as the
 * entries of a batch whose sum is right.  What is read lies in the batch, texts end in it.
 *
 * The first byte picks the way; an even one seals the rest as a batch's entries.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../libskillbox/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *from, const char *to, const char *text)
{
    assert(text >= from && text < to && memchr(text, '\0', (size_t)(to - text)) != NULL);
}

static void check_bytes(const char *from, const char *to, const char *data, size_t len)
{
    assert(data >= from && data <= to && len <= (size_t)(to - data));
}

static void read_all(const char *data, size_t len)
{
    sb_journal_batch_t batch;
    sb_execution_finish_t e;
    sb_buf_t again = SB_BUF_INIT(0);

    if (!sb_journal_read(data, len, &batch)) {
        return;
    }
    const char *end = data + batch.len;

    assert(batch.len <= len && batch.next + batch.left == end);
    while (sb_journal_next(&batch, &e)) {
        const char *const texts[] = {e.tenant, e.id, e.skill, e.status, e.inputs};

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            check_text(data, end, texts[i]);
        }
        check_bytes(data, end, e.result, e.result_len);
        check_bytes(data, end, e.logs, e.logs_len);
        assert(batch.next + batch.left == end);
        sb_journal_begin(&again);
        (void)sb_journal_add(&again, &e);
        assert(sb_buf_ok(&again));
    }
    sb_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sb_buf_t text = SB_BUF_INIT(0);
    char *copy;

    if (size == 0) {
        return 0;
    }
    sb_journal_begin(&text);
    if ((data[0] & 1) == 0) {
        sb_buf_add(&text, data + 1, size - 1);
        if (!sb_buf_ok(&text)) {
            sb_buf_free(&text);
            return 0;
        }
        sb_journal_seal(&text, 1);
    } else {
        sb_buf_clear(&text);
        sb_buf_add(&text, data + 1, size - 1);
    }
    copy = malloc(text.len + 1); /* of just that size: reading over the end is seen */
    if (copy != NULL && text.len > 0) {
        memcpy(copy, text.data, text.len);
        read_all(copy, text.len);
    }
    free(copy);
    sb_buf_free(&text);
    return 0;
}
