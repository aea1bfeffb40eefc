/* respond.h - hands replies to libmicrohttpd. Every reply carries X-Request-Id, and closes the
 * connection when the server is going down. The return value is for libmicrohttpd: MHD_NO drops
 * the connection. */
#pragma once
#include "core/edge/edge_int.h"
#include "core/util/buf.h"
#include "core/util/err.h"

/* Takes the body's memory. */
enum MHD_Result respond_body(struct exchange *ex, unsigned status, const char *content_type,
                             struct buf *body);
enum MHD_Result respond_json(struct exchange *ex, unsigned status, struct buf *body);
/* The same with one more header, unless name is NULL. */
enum MHD_Result respond_json_with(struct exchange *ex, unsigned status, struct buf *body,
                                  const char *name, const char *value);
/* One that was made elsewhere, which is given up; NULL: there was no memory for it. */
enum MHD_Result respond_made(struct exchange *ex, unsigned status, struct MHD_Response *r);
/* 401, 403 or 404 with the reason. */
enum MHD_Result respond_no_access(struct exchange *ex, enum access_verdict why);
/* With the status that belongs to the code; Retry-After when a later try may succeed. */
enum MHD_Result respond_error(struct exchange *ex, const struct err *e);
/* What ex->refusal says. */
enum MHD_Result respond_refusal(struct exchange *ex);
/* What the route's answer says. */
enum MHD_Result respond_answer(struct exchange *ex);
/* 204 with Allow. */
enum MHD_Result respond_options(struct exchange *ex);
/* The head of an event stream; read gives the body until it says END_OF_STREAM. */
enum MHD_Result respond_stream(struct exchange *ex, MHD_ContentReaderCallback read, void *cls);
