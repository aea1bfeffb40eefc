/* routes.h - the one table of what is served. */
#pragma once
#include "core/edge/edge_int.h"

enum route_access {
    ACCESS_OPEN, /* health, metrics */
    ACCESS_KEY,  /* a bearer key, when any is configured */
};

struct route {
    const char *path;
    const char *label; /* of metrics and logs */
    bool post;         /* POST, with a JSON body; else GET and HEAD */
    bool prefix;       /* path is only the beginning */
    enum route_access access;
    /* The request is complete and admitted. Replies or suspends. */
    enum MHD_Result (*handle)(struct exchange *ex);
};

const struct route *route_find(const char *path);
/* Position in the table, routes_count() for NULL. */
uint32_t route_index(const struct route *r);
uint32_t routes_count(void);
const struct route *route_at(uint32_t index);
/* What the Allow header says. */
const char *route_allow(const struct route *r);
bool route_allows(const struct route *r, const char *method);
/* True when requests to this path need a key; also for paths that do not exist. */
bool route_guarded(const struct route *r, const char *path);
