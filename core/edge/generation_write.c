/* generation_write.c - a large plain reply is written on another thread: a million logprobs take so long
 * that the loop's other connections would wait for them.
 *
 * All that it is written from is the generation's, which has ended: nobody changes it any more. So the job
 * holds the generation (n_refs), and its client may leave meanwhile. */
#include <stdlib.h>

#include "core/edge/generation_int.h"
#include "core/edge/later.h"
#include "core/edge/reply.h"

enum { LARGE_REPLY_BYTES = 32 * 1024 }; /* of what it is written from: two milliseconds at most */

struct write_later {
    struct later later; /* first */
    struct generation *generation;
    struct buf body;
};

bool generation_is_long(const struct generation *g)
{
    size_t n = 0;
    for (uint32_t i = 0; i < g->n_choices; i++) {
        const struct choice *c = &g->choices[i];
        n += c->text.len + c->ids.len + c->logprobs.len;
    }
    for (uint32_t i = 0; i < g->plan.n_prompts; i++) {
        const struct request *r = g->parts[i].request;
        const struct stream_scores *s = r ? r->stream.scores : NULL;
        n += g->plan.prompts[i].n_text + g->plan.prompts[i].n_rendered;
        n += g->plan.return_token_ids ? g->parts[i].n_prompt * sizeof(uint32_t) : 0;
        n += s ? (size_t)s->n * s->n_each * sizeof(*s->logprobs) * g->plan.sampling.n : 0;
    }
    return n > LARGE_REPLY_BYTES;
}

static void work(struct prep_job *job)
{
    struct write_later *w = (struct write_later *)job;
    reply_write(w->generation, &w->body);
}

static void release(struct later *l)
{
    struct write_later *w = (struct write_later *)l;
    buf_fini(&w->body);
    generation_unref(w->generation);
}

int generation_write_later(struct generation *g, struct err *e)
{
    struct write_later *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, LLMD_ENOMEM, "out of memory for the reply");
    w->generation = g;
    w->later.job.urgent = true;
    g->n_refs++;
    return later_give(g->exchange, &w->later, work, release, e);
}

bool generation_take_reply(struct generation *g, struct buf *out)
{
    struct write_later *w = (struct write_later *)later_take(g->exchange);
    if (!w)
        return false;
    *out = w->body;
    w->body = (struct buf){0};
    later_leave(g->exchange);
    return true;
}
