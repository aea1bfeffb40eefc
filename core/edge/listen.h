/* listen.h - the addresses that the edge listens on.
 *
 * Of an IP address that we bind ourselves each loop has a socket of its own (SO_REUSEPORT: the kernel
 * shares connections out). A UNIX socket is one file, and an inherited descriptor one socket: there all
 * loops have a copy of one descriptor and watch it with EPOLLEXCLUSIVE, so that a connection wakes one.
 *
 *   listener_open     in the order of the options, before any loop
 *   listener_socket   a loop's own, for each loop
 *   listener_settle   every loop has its own
 *
 * Thread  the edge's owner, but for what is constant after listener_settle. */
#pragma once
#include "core/edge/edge.h"
#include "core/edge/unix_socket.h"
#include "core/util/endpoint.h"

struct listener {
    const struct edge_listener *opts;
    struct endpoint at;
    uint16_t port; /* that it was bound to; 0 of a file */
    bool shared;   /* the loops have copies of one socket */
    int shared_fd; /* until listener_settle; -1 */
    struct unix_socket file;
};

/* For a zeroed one. Fails when another process listens there: with SO_REUSEPORT both would get a
 * share. */
MUST_CHECK int listener_open(struct listener *l, const struct edge_listener *opts, struct err *e);
/* A listening descriptor that is the caller's. */
MUST_CHECK int listener_socket(struct listener *l, int *out_fd, struct err *e);
/* Nothing of a zeroed one; so also: */
void listener_settle(struct listener *l);
/* Removes a file. */
void listener_fini(struct listener *l);
