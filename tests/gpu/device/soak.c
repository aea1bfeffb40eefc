/* soak.c - steps of all kinds by turns, for a while: what a sequence draws must not depend on when it
 * runs or what runs beside it, and the device's memory must not shrink. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/clock.h"
#include "tests/gpu/device/rig.h"

enum { SEQUENCES = 16, LENGTH = 24, PROMPT_MAX = 40, CONTEXT = 128, BLOCKS = 2063 };

static uint32_t below(uint64_t *x, uint32_t n)
{
    *x = *x * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*x >> 33) % n);
}

/* One sequence: its prompt follows from its number, its tokens must be those of the first time. */
struct life {
    uint32_t prompt[PROMPT_MAX], n_prompt;
    uint32_t n_done; /* positions in the cache */
    uint32_t tokens[LENGTH], n_tokens;
};

static void begin(struct life *l, uint32_t which, uint32_t vocab)
{
    uint64_t x = 99 + which;
    l->n_prompt = 1 + below(&x, PROMPT_MAX);
    for (uint32_t i = 0; i < l->n_prompt; i++)
        l->prompt[i] = below(&x, vocab);
    l->n_done = l->n_tokens = 0;
}

/* Adds some rows of the sequence; returns how many it takes, 0: it rests. */
static uint32_t advance(struct step *s, const struct rig *r, struct life *l, uint32_t which,
                        uint64_t *x)
{
    if (l->n_done < l->n_prompt) {
        const uint32_t left = l->n_prompt - l->n_done, n = 1 + below(x, left);
        step_add(s, r, which, l->prompt + l->n_done, n, l->n_done, n == left);
        return n;
    }
    step_add(s, r, which, &l->tokens[l->n_tokens - 1], 1, l->n_done, 1);
    return 1;
}

static void vary(struct sample_row *row, uint32_t which, uint32_t n_tokens)
{
    row->how.temperature = which % 4 == 0 ? 0.0f : 0.8f;
    row->how.top_k = which % 4 == 1 ? 40 : 0;
    row->how.top_p = which % 4 == 2 ? 0.9f : 1.0f;
    row->how.n_generated = n_tokens;
}

struct soaking {
    struct rig rig;
    struct step step;
    struct life lives[SEQUENCES];
    uint32_t first[SEQUENCES][LENGTH];
    bool known[SEQUENCES];
    uint64_t n_steps, n_tokens, n_lives, n_wrong;
};

static void one_step(struct soaking *k, uint64_t *x)
{
    uint32_t which[SEQUENCES], rows[SEQUENCES], n = 0;
    step_clear(&k->step);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        if (below(x, 3) == 0)
            continue;
        struct life *l = &k->lives[i];
        const uint32_t n_out = k->step.batch.n_out;
        which[n] = i;
        rows[n++] = advance(&k->step, &k->rig, l, i, x);
        if (k->step.batch.n_out > n_out)
            vary(&k->step.samples[n_out], i, l->n_tokens);
    }
    if (n == 0)
        return;
    step_run(&k->step, &k->rig);
    uint32_t out = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct life *l = &k->lives[which[i]];
        l->n_done += rows[i];
        if (l->n_done < l->n_prompt)
            continue;
        l->tokens[l->n_tokens++] = k->step.ids[out++];
        k->n_tokens++;
        if (l->n_tokens < LENGTH)
            continue;
        if (k->known[which[i]])
            k->n_wrong += memcmp(k->first[which[i]], l->tokens, sizeof(l->tokens)) != 0;
        memcpy(k->first[which[i]], l->tokens, sizeof(l->tokens));
        k->known[which[i]] = true;
        k->n_lives++;
        begin(l, which[i], k->rig.shape->vocab);
    }
    k->n_steps++;
}

int soak(bool tiny, uint32_t seconds)
{
    static struct soaking k;
    const struct shape *list;
    (void)shapes(tiny, &list);
    /* Pinned: otherwise a row's bits, and rarely its token, follow the number of rows beside it. */
    const struct rig_opts o = {.cuda = {.pin_kernels = true},
                               .max_rows = SEQUENCES * PROMPT_MAX,
                               .max_seqs = SEQUENCES,
                               .max_context = CONTEXT,
                               .n_blocks = BLOCKS};
    const uint64_t until_us = clock_now_us() + seconds * 1000000ull;
    uint64_t x = 1, before = 0, after = 0;
    struct err e = {0};
    rig_open(&k.rig, &list[0], &o);
    step_init(&k.step, &o);
    for (uint32_t i = 0; i < SEQUENCES; i++)
        begin(&k.lives[i], i, list[0].vocab);
    one_step(&k, &x);
    must(gpu_memory_left(k.rig.cuda->gpu, &before, &e), "memory", &e);
    while (clock_now_us() < until_us)
        one_step(&k, &x);
    must(gpu_memory_left(k.rig.cuda->gpu, &after, &e), "memory", &e);
    const bool ok = k.n_wrong == 0 && after == before;
    printf(
        "{\"model\": \"%s\", \"seconds\": %u, \"steps\": %llu, \"tokens\": %llu, "
        "\"sequences\": %llu, \"other_tokens\": %llu, \"memory_lost_bytes\": %lld, \"ok\": %s}\n",
        list[0].name, seconds, (unsigned long long)k.n_steps, (unsigned long long)k.n_tokens,
        (unsigned long long)k.n_lives, (unsigned long long)k.n_wrong, (long long)(before - after),
        ok ? "true" : "false");
    step_fini(&k.step);
    rig_close(&k.rig);
    return ok ? 0 : 1;
}
