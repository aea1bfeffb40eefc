/* sink.h - a descriptor that lines are written to without ever blocking for long: whole or not at all.
 *
 * Pipes and terminals are opened anew through /proc/self/fd, because O_NONBLOCK on the shared descriptor
 * would change it for the shell too; sockets are written with MSG_DONTWAIT. Only a regular file on a
 * disk that hangs can hold a thread up.
 *
 * Thread  sink_put: any; sink_open and sink_close while nobody puts. */
#pragma once
#include <stdatomic.h>

#include "core/util/base.h"

enum {
    SINK_LINE_MAX = 4096, /* with its line feed: PIPE_BUF, so that a pipe takes it whole */
};

enum sink_kind {
    SINK_PLAIN,  /* a file, or a pipe that could not be opened anew: poll(), then write() */
    SINK_SOCKET, /* send() with MSG_DONTWAIT (the journal's stream) */
    SINK_OWN,    /* a pipe or terminal opened anew */
};

struct sink {
    int fd;
    enum sink_kind kind;
    atomic_bool stuck; /* the last line was lost: do not wait for the next one */
};

void sink_open(struct sink *s, int fd);
void sink_close(struct sink *s); /* what was opened anew */
/* n <= SINK_LINE_MAX. When the line does not fit, waits wait_ms for room, once; from then on not at all
 * until one goes through. False: it is lost. */
bool sink_put(struct sink *s, const char *line, size_t n, int wait_ms);
