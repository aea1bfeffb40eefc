/* worker_logprobs.c - what requests want to know of tokens, by logits on the host, by the device's word,
 * or, where there are neither, with certainty. */
#include "core/engine/forward.h"
#include "core/engine/logprobs.h"
#include "core/engine/worker_int.h"

/* As the device says: the same layout as logprobs_of() without further ids. */
static void from_device(const struct sample_logprobs *d, uint32_t token, struct token_logprob *out)
{
    *out++ = (struct token_logprob){token, d->chosen};
    for (uint32_t i = 0; i < d->n_top; i++)
        *out++ = (struct token_logprob){d->top_ids[i], d->top[i]};
}

const struct token_logprob *worker_logprobs(struct worker *w, const struct batch_build *b,
                                            const struct seq_group *g, uint32_t token,
                                            uint32_t out_row)
{
    const struct sampling_params *p = &g->req->sampling;
    if (!p->logprobs.on)
        return NULL;
    BUG_ON(sampling_n_logprobs(p) > ARRAY_LEN(w->logprobs));
    if (!forward_has_sampler(w->forward))
        logprobs_of(&w->scratch, forward_logits(w->forward, out_row), token, p->logprobs.n_top,
                    p->logprob_ids, p->n_logprob_ids, w->logprobs);
    else if (w->limits.samplers)
        from_device(b->sample_rows[out_row].logprobs, token, w->logprobs);
    else
        logprobs_certain(token, p->logprobs.n_top, p->logprob_ids, p->n_logprob_ids, w->logprobs);
    return w->logprobs;
}

uint32_t worker_score(struct worker *w, const struct batch_build *b, const struct seq_group *g,
                      uint32_t out_row, struct token_logprob out[])
{
    const struct request *r = g->req;
    const uint32_t n_top = r->sampling.prompt_logprobs.n_top, token = r->prompt[g->n_scored];
    if (!forward_has_sampler(w->forward)) {
        const float *logits = forward_logits(w->forward, out_row);
        logprobs_of(&w->scratch, logits, token, n_top, NULL, 0, out);
        return logprobs_rank(logits, w->limits.vocab_size, token);
    }
    if (w->limits.samplers) {
        const struct sample_logprobs *d = b->sample_rows[out_row].logprobs;
        from_device(d, token, out);
        return d->rank;
    }
    logprobs_certain(token, n_top, NULL, 0, out);
    return 1;
}
