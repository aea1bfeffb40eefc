/* control_client.h - what `llmd status`, `drain` and `reload` have in common: which control socket, one
 * question to it, what to say when nobody answers.
 *
 * Errors  one line for the operator: what failed and what to do. */
#pragma once
#include <jansson.h>

#include "core/util/args.h"
#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct control_client {
    const char *socket; /* --socket; NULL: not given */
    const char *config; /* --config */
    struct buf path;    /* of the socket, once opened */
};

/* Entries of a command's option table. */
#define CONTROL_OPTIONS(client)                                                                    \
    {.name = "socket",                                                                             \
     .letter = 's',                                                                                \
     .type = ARG_STRING,                                                                           \
     .value = "PATH",                                                                              \
     .help = "the server's control socket",                                                        \
     .out = &(client)->socket},                                                                    \
    {                                                                                              \
        .name = "config", .letter = 'c', .type = ARG_STRING, .value = "FILE",                      \
        .help = "the server's configuration file, which names its control socket (default "        \
                "/etc/llmd.conf)",                                                                 \
        .out = &(client)->config                                                                   \
    }

/* Finds the socket: --socket, else what --config says, else what /etc/llmd.conf says when that can be
 * read, else the default. EINVAL: the file cannot be read, or has none. */
MUST_CHECK int control_client_open(struct control_client *c, struct err *e);
void control_client_close(struct control_client *c);
/* body NULL: none. On 2xx *out is the answer, to be released. ENOTFOUND: no server listens there;
 * EAUTH: this user may not; EIO: it went away; EINVAL: it refused, with its reason. */
MUST_CHECK int control_ask(const struct control_client *c, const char *method, const char *route,
                           const char *body, json_t **out, struct err *e);

/* Text of the server, fit for a terminal, cut to n_out bytes; "" when it is no string. */
const char *control_text(const json_t *v, char *out, size_t n_out);
/* A member that is a number; 0 when it is none. */
double control_number(const json_t *object, const char *name);
