/* generation_limits.c - the tokens of a generation and the limits of its key: reserved when its prompts
 * are tokenized, settled when it is known what it used. */
#include "core/edge/generation_int.h"
#include "core/util/clock.h"

static uint64_t now_ns(void)
{
    return clock_now_us() * 1000;
}

int generation_reserve(struct generation *g, struct err *e)
{
    struct exchange *ex = g->exchange;
    const struct plan *p = &g->plan;
    struct key_demand d = {.n_choices = (uint64_t)p->n_prompts * p->sampling.n};
    uint32_t room = 0;
    for (uint32_t i = 0; i < p->n_prompts; i++) {
        const uint64_t n = p->prompts[i].tokens.n;
        d.n_prompt += n;
        room = (uint32_t)u64_max(room, p->model->max_model_len - n);
    }
    d.max_tokens = p->no_max_tokens ? room : u64_min(p->sampling.max_tokens, room);
    if (key_reserve(&ex->hold, &d, now_ns(), &ex->limited))
        return 0;
    const uint32_t limit = ex->key->limits.tokens_per_minute;
    if (ex->limited.wait_ns == UINT64_MAX)
        return err_set_param(e, LLMD_ELIMIT, p->chat ? "messages" : "prompt",
                             "the prompt has %llu tokens, and key \"%s\" may use %u per minute: it "
                             "will never fit; shorten it",
                             (unsigned long long)d.n_prompt, ex->key->name, limit);
    return exchange_refuse_rate(ex, "tokens", limit, e);
}

/* Prompts count when a worker began with them, or nothing but them was wanted. */
static uint64_t used_of_prompts(const struct generation *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; g->parts && i < g->plan.n_prompts; i++) {
        struct request *r = g->parts[i].request;
        bool used = !r;
        for (uint32_t k = 0; k < g->plan.sampling.n; k++)
            used |= g->choices[g->parts[i].first_choice + k].n_tokens > 0;
        if (!used) {
            lock_take(&r->stream.mu);
            used = r->trace.scheduled_us != 0;
            lock_drop(&r->stream.mu);
        }
        n += used ? g->parts[i].n_prompt : 0;
    }
    return n;
}

void generation_settle(struct generation *g)
{
    uint64_t n_output = 0;
    if (!g->exchange->hold.use || !g->submitted)
        return;
    for (uint32_t i = 0; i < g->n_choices; i++)
        n_output += g->choices[i].n_tokens;
    key_settle(&g->exchange->hold, used_of_prompts(g), n_output, now_ns());
}

void generation_leave(struct generation *g)
{
    generation_settle(g);
    exchange_leave(g->exchange, g->submitted ? 0 : g->error.code);
}
