/* generation_time.c - the time limits of a generation: in all, to its first token, between tokens. */
#include "core/edge/generation_int.h"

static bool over(uint64_t since_us, uint32_t limit_s, uint64_t now_us)
{
    return limit_s > 0 && now_us > since_us && now_us - since_us >= (uint64_t)limit_s * 1000000;
}

static bool late(struct generation *g, enum edge_timeout which, uint32_t limit_s, struct err *why)
{
    static const struct {
        const char *what, *option;
    } texts[N_EDGE_TIMEOUTS] = {
        [TIMEOUT_REQUEST] = {"the answer was not complete", "request_timeout_s"},
        [TIMEOUT_FIRST_TOKEN] = {"there was no token", "first_token_timeout_s"},
        [TIMEOUT_TOKEN] = {"no further token came", "token_timeout_s"},
    };
    err_set(why, LLMD_ETIMEOUT, "%s within %u s (%s of the server)", texts[which].what, limit_s,
            texts[which].option);
    metric_add(g->exchange->conn->loop->edge->metrics.timeouts[which], 1);
    return true;
}

bool generation_is_late(struct generation *g, uint64_t now_us, struct err *why)
{
    const struct edge_limits *l = &g->catalog->limits;
    if (g->ended)
        return false;
    if (over(g->exchange->started_us, l->request_timeout_s, now_us))
        return late(g, TIMEOUT_REQUEST, l->request_timeout_s, why);
    if (!g->submitted)
        return false;
    if (g->behind || g->out.len > g->out_at) /* it is the client who does not take what there is */
        g->token_us = now_us;
    if (!g->begun && over(g->token_us, l->first_token_timeout_s, now_us))
        return late(g, TIMEOUT_FIRST_TOKEN, l->first_token_timeout_s, why);
    if (g->begun && over(g->token_us, l->token_timeout_s, now_us))
        return late(g, TIMEOUT_TOKEN, l->token_timeout_s, why);
    return false;
}
