#include "core/edge/stop_match.h"

int stop_set_add(struct stop_set *set, struct arena *a, const char *s, size_t n)
{
    BUG_ON(n == 0);
    if (set->n == STOP_MAX_STRINGS || n > UINT32_MAX)
        return -LLMD_ELIMIT;
    uint32_t *fail = arena_array(a, n, sizeof(*fail));
    if (!fail)
        return -LLMD_ENOMEM;

    uint32_t k = 0;
    for (uint32_t i = 1; i < n; i++) {
        while (k > 0 && s[i] != s[k])
            k = fail[k - 1];
        if (s[i] == s[k])
            k++;
        fail[i] = k;
    }
    set->items[set->n++] = (struct stop_string){.s = s, .n = (uint32_t)n, .fail = fail};
    return 0;
}

/* Takes one byte; true when the whole string is there. */
static bool step(const struct stop_string *p, uint32_t *state, char c)
{
    uint32_t k = *state;
    while (k > 0 && p->s[k] != c)
        k = p->fail[k - 1];
    if (p->s[k] == c)
        k++;
    bool whole = k == p->n;
    *state = whole ? p->fail[k - 1] : k;
    return whole;
}

int stop_match_feed(const struct stop_set *set, struct stop_match *m, const char *s, size_t n,
                    bool armed, size_t *out_end)
{
    for (size_t i = 0; set->n > 0 && i < n; i++) {
        int found = -1;
        for (uint32_t j = 0; j < set->n; j++)
            if (step(&set->items[j], &m->state[j], s[i]) &&
                (found < 0 || set->items[j].n > set->items[found].n))
                found = (int)j;
        if (found >= 0 && armed) {
            *out_end = i + 1;
            return found;
        }
    }
    return -1;
}

size_t stop_match_held(const struct stop_set *set, const struct stop_match *m)
{
    size_t held = 0;
    for (uint32_t j = 0; j < set->n; j++)
        held = u64_max(held, m->state[j]);
    return held;
}
