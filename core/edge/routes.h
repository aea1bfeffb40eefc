/* routes.h - the one table of what is served. */
#pragma once
#include "core/edge/access.h"
#include "core/edge/answer.h"
#include "core/edge/edge_int.h"

enum route_method {
    ROUTE_GET = 1, /* and HEAD */
    ROUTE_POST = 2,
    ROUTE_DELETE = 4,
};

struct route {
    const char *path;
    const char *label; /* of metrics and logs */
    unsigned methods;  /* of enum route_method */
    bool prefix;       /* path is only the beginning */
    enum route_access access;
    /* The request is complete and admitted. Replies or suspends. */
    enum MHD_Result (*handle)(struct exchange *ex);
};

/* What the route says, of one whose handler is respond_answer (answer.h); *out is a 200 without a body.
 * On failure the reply is the error. */
typedef int route_answer(struct loop *l, const struct catalog *c, struct open_answer *out,
                         struct err *e);
/* NULL: it has a handler of its own. */
route_answer *route_answer_of(const struct route *r);
const struct route *route_find(const char *path);
/* Position in the table, routes_count() for NULL. */
uint32_t route_index(const struct route *r);
uint32_t routes_count(void);
const struct route *route_at(uint32_t index);
/* What the Allow header says. */
const char *route_allow(const struct route *r);
/* The bit of enum route_method; 0 for another method. */
unsigned route_method(const char *method);
/* Also of paths that do not exist: r is NULL then. */
enum route_access route_access(const struct route *r, const char *path);
