/* client_int.h - one client of a load: its connection, the request under way, its answer.
 *
 *   IDLE -> OPENING (connect, TLS) -> SENDING -> READING -> IDLE, at most one request at a time. A
 *   kept connection that the server closed while we sent is opened once more, silently.
 *
 * Thread  that of its load. */
#pragma once
#include "core/bench/answer.h"
#include "core/bench/conn.h"
#include "core/bench/measure.h"
#include "core/bench/response.h"
#include "core/bench/workload.h"

enum { CLIENT_BUFFER = 64 << 10 };

enum client_state { CLIENT_IDLE, CLIENT_OPENING, CLIENT_SENDING, CLIENT_READING };

struct client {
    enum client_state state;
    struct conn conn;
    uint32_t interest; /* epoll events that are asked for; 0: not registered */
    bool used_before;  /* the connection carried an answer already */

    struct work work;
    struct buf history; /* of a conversation */
    struct buf request, body;
    size_t n_sent;
    struct response response;
    struct answer answer;
    struct buf refusal; /* body of an answer that is not 2xx, its start */
    uint64_t due_us, started_us, first_us, last_us;
    uint32_t *gaps; /* [n_gaps] between pieces of this answer */
    uint32_t n_gaps, cap_gaps;
    uint64_t rested_us; /* closed loop: no request before */
    bool out_of_memory;
    char message[MEASURE_MESSAGE]; /* why the last request failed; samples borrow it */

    uint64_t *now_us;             /* of the load: when the bytes that are being parsed came */
    uint64_t *n_pieces, *n_bytes; /* of the run so far */
    int epoll;
    uint32_t index; /* of the client in its load */
};

/* What client_* say: the request goes on, or it is over. */
enum client_verdict { CLIENT_GOES_ON, CLIENT_OVER };

void client_init(struct client *c, uint32_t index, int epoll, uint64_t *now_us);
void client_fini(struct client *c);
/* Starts the request for c->work. CLIENT_OVER: *out tells why it failed at once. */
enum client_verdict client_start(struct client *c, const struct target *t, const struct workload *w,
                                 uint64_t due_us, struct sample *out);
/* The descriptor is ready. buffer: CLIENT_BUFFER bytes for what comes. */
enum client_verdict client_event(struct client *c, char *buffer, struct sample *out);
/* Gives the request up. */
void client_abort(struct client *c, enum outcome why, const char *message, struct sample *out);
