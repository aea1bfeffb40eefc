/* front.h - a client's connection in front of libmicrohttpd: every byte passes here, is read by one
 * rule (head_scan.h), and only then goes on.
 *
 *   client ── fd ── TLS ── front ── pair ── libmicrohttpd (conn, exchange)
 *
 *   up    client -> scan -> head (until it is complete) -> up (what the pair does not take yet) -> pair
 *   down  pair -> client, or -> down (what the client does not take yet)
 *
 * TLS (tls_conn.h) is there on listeners that speak it: then its handshake comes first, or behind the PROXY
 * header, and with a deadline of its own. Who speaks plain HTTP there is told so.
 *
 * A socket pair, because libmicrohttpd reads and writes a descriptor. A head goes on when it is
 * complete, and libmicrohttpd hears of a connection with its first head: clients that never finish one
 * cost a record and no more. Of a chunked body the contents go on, in chunks of our own. Plain requests
 * that come before it hears of the connection are answered here (answer.h), a few of one client at a
 * time, and it never does when no others come.
 *
 * What is refused: a bad head is replaced by a plain one that libmicrohttpd hands to the exchange in its
 * turn, after earlier requests have their replies; a bad body is ended where it went wrong. Either
 * way front_fault() tells the exchange why, and nothing of the client is read as HTTP any more.
 *
 * Invariants  I1: pair < 0 or libmicrohttpd has its other end, or had it and bytes may be left.
 *             I2: only front_pump and front_end_all free a front, never an event or libmicrohttpd:
 *                 what they find wrong they note, and touch it.
 *             I3: a touch lasts until libmicrohttpd has run: what it writes then is moved down.
 * Thread      confined to its loop. */
#pragma once
#include <sys/socket.h>

#include "core/edge/edge_int.h"
#include "core/edge/head_scan.h"

enum front_state {
    FRONT_PROXY, /* a load balancer's: its PROXY header comes first */
    FRONT_TLS,   /* the handshake is under way */
    FRONT_OPEN,
    FRONT_LINGER, /* all is sent; late input is dropped: closing at once could take the reply back */
    FRONT_OVER,   /* to be freed */
};

struct front {
    struct loop *loop;
    const struct edge_listener *listener; /* that the client came to */
    struct front *prev, *next;            /* in loop->fronts */
    struct front *next_touched;           /* in loop->touched */
    struct conn *conn; /* libmicrohttpd's; NULL before its first head, and after its end */
    int fd, pair;      /* pair: our end; -1 */
    uint32_t slot;     /* in loop->slots */
    enum front_state state;
    struct tls_conn *tls; /* from the handshake's first byte on; NULL */
    bool touched;
    bool counted;              /* of its address */
    bool down_due;             /* the pair may hold bytes for the client */
    bool readable;             /* the client's socket may hold input */
    bool hung_up;              /* the kernel reported an end: to be read up to it */
    bool end_waits;            /* for room to say goodbye in */
    bool client_ended;         /* it sends no more */
    bool up_ended;             /* and libmicrohttpd knows */
    bool deaf;                 /* what the client sends is dropped */
    bool pair_watched;         /* for room */
    bool all_said;             /* without libmicrohttpd: when it has left, linger */
    uint32_t n_heads, n_begun; /* requests that went on; that libmicrohttpd began */
    uint32_t n_answered;       /* requests of this turn, without libmicrohttpd */
    uint32_t n_owed;           /* replies that libmicrohttpd is done with and the client has not */
    uint64_t came_us;          /* when it was accepted */
    uint64_t head_deadline_us, write_deadline_us, linger_deadline_us; /* 0: none */
    uint64_t idle_deadline_us; /* between two requests that libmicrohttpd knows nothing of */
    uint64_t n_dropped;
    struct buf down, up, head;
    struct head_scan scan;
    struct sockaddr_storage peer; /* the client */
    socklen_t n_peer;
};

/* Takes the socket of a client that came to a listener, and that edge_count_client() counted unless
 * a PROXY header comes first. False, and it is closed, when memory is
 * short. */
bool front_new(struct loop *l, const struct edge_listener *listener, int fd,
               const struct sockaddr_storage *peer, socklen_t n_peer);
/* An epoll event of the client's socket, or of the pair's room. */
void front_event(struct front *f, uint32_t events);
/* libmicrohttpd writes, or may write, to the client: front_pump looks at it. NULL is fine. */
void front_touch(struct front *f);
/* libmicrohttpd did not get through: those it works for may have something in the next turn. */
void front_touch_busy(struct loop *l);
/* Moves what can be moved, of all that were touched: up, and down as well. */
void front_pump(struct loop *l, bool down);
/* Notes what is past a deadline; front_pump ends it. */
void front_sweep(struct loop *l, uint64_t now_us);
/* Whether a client that came less than so long ago has not asked anything yet. */
bool front_any_new(const struct loop *l, uint64_t us);
/* The loop ends: closes those that have nothing to write, or all of them now. True when none is left. */
bool front_end_all(struct loop *l, bool now);

/* Writes n > 0 bytes to the client as a chunk, in one write: the reply's head has left, libmicrohttpd
 * is suspended in its body and has written whole chunks. False, and nothing is written, when bytes
 * wait in front of it; f may be NULL. */
bool front_send_chunk(struct front *f, const char *data, size_t n);

/* A request begins in libmicrohttpd. */
void front_begin(struct front *f);
/* libmicrohttpd is done with a reply: it counts as an exchange until its end has left. */
void front_owe(struct front *f);
/* All that libmicrohttpd wrote has left, or never will. */
void front_settle(struct front *f);
/* Why the request at hand is refused, and with which status; NULL: it is not. */
const char *front_fault(const struct front *f, unsigned *out_status);
