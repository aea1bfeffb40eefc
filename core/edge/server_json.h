/* server_json.h - members of the server's own that /admin/v1/status and the page's snapshot share. */
#pragma once
#include "core/edge/edge_int.h"
#include "core/util/buf.h"

/* "listen":[...],"control_socket":... */
void server_json_listeners(const struct edge *edge, struct buf *out);
/* "models":[...] */
void server_json_models(struct router *r, const struct catalog *served, struct buf *out);
/* "reload":... */
void server_json_reload(const struct edge_control *c, struct buf *out);
