
/*
 * The text of server-sent events (WHATWG HTML, "Server-sent events").
 *
 *     event: status   {"execution_id":"...","status":"queued|running"}
 *     event: log      {"text":"a line\n"}; its id is the offset behind it
 *     event: done     the record, as GET gives it without the log; id "done"
 *
 * Data is compact JSON, so it never holds a line's end.
 */


#include "ngx_http_skillbox_async.h"


void
ngx_http_skillbox_event_status(sb_buf_t *out, ngx_str_t *id,
    const char *status)
{
    sb_buf_str(out, "event: status\ndata: ");
    sb_buf_char(out, '{');
    sb_json_key(out, "execution_id");
    sb_json_str(out, (char *) id->data, id->len);
    sb_json_key_str(out, "status", status);
    sb_buf_str(out, "}\n\n");
}


void
ngx_http_skillbox_event_log(sb_buf_t *out, uint64_t offset, const char *text,
    size_t len)
{
    size_t       n;
    const char  *end;

    while (len) {
        end = memchr(text, '\n', len);
        n = end ? (size_t) (end - text) + 1 : len;
        offset += n;

        sb_buf_fmt(out, "id: %llu\nevent: log\ndata: ",
                   (unsigned long long) offset);
        sb_buf_char(out, '{');
        sb_json_key(out, "text");
        sb_json_str(out, text, n);
        sb_buf_str(out, "}\n\n");

        text += n;
        len -= n;
    }
}


void
ngx_http_skillbox_event_done(sb_buf_t *out, sb_buf_t *record)
{
    sb_buf_str(out, "id: done\nevent: done\ndata: ");
    sb_buf_add(out, record->data, record->len);
    sb_buf_str(out, "\n\n");
}
