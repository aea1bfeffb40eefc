/* request_log.h - one row of the request log for each exchange that wanted something generated, also
 * for those that were refused.
 *
 * Thread  that of the exchange's loop. */
#pragma once
#include "core/edge/edge_int.h"

/* The exchange is over; its generation, if any, still lives. */
void request_log_end(const struct exchange *ex);
/* Whether the body of this exchange is to be kept (store.log_prompts, key.log_prompts). */
bool request_log_wants_body(const struct exchange *ex);
