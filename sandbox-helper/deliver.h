/*
 * deliver.h - brings the results of asynchronous runs to the gateway: HTTP/1.1 POSTs to
 * its internal listener (protocol.h, "Completion"), over a UNIX socket.
 *
 * A result in the spool is posted until it is answered 2xx, then removed.  A refusal
 * delays that result alone; a gateway that is not there delays all.  A few connections
 * at once, one for each POST, so that the gateway can commit them together.
 */
#ifndef SB_DELIVER_H
#define SB_DELIVER_H

#include <stdbool.h>
#include <sys/un.h>

#include "../libskillbox/uuid7.h"
#include "loop.h"
#include "spool.h"

#define DELIVER_SLOTS 4

typedef struct deliver_item_s {
    struct deliver_item_s *next;
    char id[SB_UUID_LEN + 1];
    char *facts; /* of an announcement, malloc'ed; NULL: the result in the spool */
    int64_t due_us, backoff_ms;
    bool busy; /* being posted */
} deliver_item_t;

typedef struct {
    struct deliver_s *d;
    loop_source_t source;
    loop_timer_t timer;
    deliver_item_t *item; /* NULL: idle */
    sb_buf_t head;        /* request head, then what came back */
    size_t sent;
    int file;
    uint64_t body_at, body_len;
    bool reading;
} deliver_slot_t;

typedef struct deliver_s {
    loop_t *loop;
    spool_t *spool;
    struct sockaddr_un address; /* sun_path "": there is no gateway to deliver to */
    deliver_slot_t slots[DELIVER_SLOTS];
    deliver_item_t *items, **last;
    size_t count;
    loop_timer_t timer;
    int64_t pause_ms; /* after the last failure to reach the gateway */
    int64_t resume_us;
    bool complained;
    bool closed;
} deliver_t;

void deliver_init(deliver_t *d, loop_t *loop, spool_t *spool, const struct sockaddr_un *address);
/* Ends what is under way; results stay in the spool. */
void deliver_close(deliver_t *d);

/* The .done of that execution is to be delivered. */
void deliver_result(deliver_t *d, const char *id);
/* Says once that it runs; facts: header lines.  Dropped when the gateway is not there. */
void deliver_running(deliver_t *d, const char *id, const char *facts);
/* Does a result of that execution wait here? */
bool deliver_has(const deliver_t *d, const char *id);

#endif
