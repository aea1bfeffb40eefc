/* front_int.h - what the parts of a front share. */
#pragma once
#include "core/edge/front.h"
#include "core/edge/tls_conn.h"
#include "core/util/clock.h"

enum { READ_BYTES = 16 * 1024 }; /* of a socket at a time */

/* To be pumped: something is to be read, or its state changed. */
void front_note(struct front *f);
/* front_down.c: moves what the pair holds to the client; begins to linger at its end. */
void front_pump_down(struct front *f);
/* front_down.c: writes to the client; what it does not take waits in down. */
void front_write(struct front *f, const char *data, size_t n);
/* front_answer.c: answers a head that came in one piece, when nothing is in front of it and it can be
 * answered here; the reply may wait for front_send_answers(). False: libmicrohttpd is to have it. */
bool front_answer(struct front *f, const char *head, size_t n);
void front_send_answers(struct front *f);
/* All is written: says goodbye, and drops what still comes. */
void front_linger(struct front *f);
/* front_tls.c: goes on with the handshake. */
void front_shake_hands(struct front *f);
/* A handshake is over, if there was one. */
void front_count_handshake(const struct front *f, enum tls_outcome outcome);

static inline uint64_t front_in_s(uint32_t s)
{
    return clock_now_us() + (uint64_t)s * 1000000;
}

/* When a client that takes nothing from now on is dropped. */
static inline uint64_t front_write_deadline(const struct front *f)
{
    return front_in_s(edge_limits(f->loop->edge).client_write_timeout_s);
}
