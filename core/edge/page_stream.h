/* page_stream.h - GET /admin/v1/stream: the snapshot as an event, once a second, to each tab.
 *
 *   handler          page_stream_begin: the newest snapshot, then suspended
 *   page_tick        page_stream_wake: pokes the loops that have streams
 *   loop             page_stream_send: the newest snapshot, as a chunk past libmicrohttpd
 *
 * All streams send the same bytes. One whose client has not taken the last snapshot yet gets none: it goes
 * on with a newer one. A stream does not count as an answer that a drain waits for, and holds no old
 * catalogue: with each snapshot it is asked anew whether its caller may look, by what is configured now.
 *
 * Thread  the exchange's loop; page_stream_wake any. */
#pragma once
#include "core/edge/edge_int.h"

struct page_stream;

/* Its reply, from its first byte. EFULL: there are PAGE_STREAMS_MAX. */
enum MHD_Result page_stream_begin(struct exchange *ex);
/* The exchange is over; nothing when it has no stream. */
void page_stream_free(struct exchange *ex);
void page_stream_wake(struct edge *edge);
/* To streams of the loop that have not got the newest: a few per turn, so that tokens do not wait for all. */
void page_stream_send(struct loop *l);
/* The loop ends: its streams do, at the end of an event. */
void page_stream_end_all(struct loop *l);
