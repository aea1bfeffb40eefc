#include "core/bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
} outcomes[N_OUTCOMES] = {
    [OUTCOME_OK] = {"ok", "whole answers"},
    [OUTCOME_CONNECT] = {"connect", "no connection"},
    [OUTCOME_STATUS] = {"status", "refused"},
    [OUTCOME_TIMEOUT] = {"timeout", "timed out"},
    [OUTCOME_BROKEN] = {"broken", "broken off"},
    [OUTCOME_EVENT] = {"error_event", "error in the stream"},
    [OUTCOME_MALFORMED] = {"malformed", "not understood"},
    [OUTCOME_CANCELLED] = {"cancelled", "interrupted"},
};

const char *outcome_name(enum outcome o)
{
    return outcomes[o].name;
}

const char *outcome_text(enum outcome o)
{
    return outcomes[o].text;
}

/* One "name:duration" of n bytes. */
static bool parse_bound(struct slo *s, const char *text, size_t n)
{
    static const char *const names[] = {"ttft", "itl", "tpot", "e2e"};
    static const struct {
        const char *name;
        double us;
    } units[] = {{"us", 1}, {"ms", 1e3}, {"s", 1e6}};
    uint64_t *bounds[] = {&s->ttft_us, &s->itl_us, &s->tpot_us, &s->e2e_us};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t k = strlen(names[i]);
        if (n <= k + 1 || strncmp(text, names[i], k) != 0 || text[k] != ':')
            continue;
        const char *number = text + k + 1;
        char *unit;
        double v = strtod(number, &unit);
        size_t n_unit = (size_t)(text + n - unit);
        if (*number < '0' || *number > '9' || unit > text + n)
            return false;
        for (size_t u = 0; u < ARRAY_LEN(units); u++)
            if (strlen(units[u].name) == n_unit && strncmp(unit, units[u].name, n_unit) == 0 &&
                v * units[u].us >= 1 && v * units[u].us < 1e12) {
                *bounds[i] = (uint64_t)(v * units[u].us);
                return true;
            }
    }
    return false;
}

int slo_parse(struct slo *s, const char *text, struct err *e)
{
    struct slo got = {0};
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, ",");
        if (!parse_bound(&got, p, n))
            return err_set(e, LLMD_EINVAL,
                           "'%.*s' is no bound; write ttft:200ms,itl:50ms,tpot:40ms,e2e:5s or some "
                           "of these",
                           (int)u64_min(n, 100), p);
        p += n;
        if (*p == '\0')
            break;
    }
    *s = got;
    return 0;
}

static void count_status(struct measure *m, int status)
{
    uint32_t i = 0;
    while (i < m->n_statuses && m->statuses[i].status != status)
        i++;
    if (i == m->n_statuses) {
        if (i == MEASURE_STATUSES)
            m->statuses[--i].status = 0;
        else
            m->statuses[m->n_statuses++].status = status;
    }
    m->statuses[i].n++;
}

static bool within(uint64_t v, uint64_t bound)
{
    return bound == 0 || v <= bound;
}

static void add_whole(struct measure *m, const struct sample *s)
{
    uint32_t tokens = s->has_usage ? s->completion_tokens : s->n_pieces;
    uint64_t tpot = tokens > 1 ? s->text_us / (tokens - 1) : 0, longest = 0;
    histogram_add(&m->ttft, s->ttft_us);
    histogram_add(&m->e2e, s->e2e_us);
    if (tokens > 1)
        histogram_add(&m->tpot, tpot);
    for (uint32_t i = 0; i < s->n_gaps; i++) {
        histogram_add(&m->itl, s->gaps[i]);
        longest = u64_max(longest, s->gaps[i]);
    }
    m->n_with_usage += s->has_usage;
    m->prompt_tokens += s->prompt_tokens;
    m->cached_tokens += s->cached_tokens;
    m->output_tokens += tokens;
    m->n_good += within(s->ttft_us, m->slo.ttft_us) && within(longest, m->slo.itl_us) &&
                 within(tpot, m->slo.tpot_us) && within(s->e2e_us, m->slo.e2e_us);
}

void measure_add(struct measure *m, const struct sample *s)
{
    if (s->outcome == OUTCOME_OK)
        add_whole(m, s);
    else if (m->n[s->outcome] == 0 && s->message)
        snprintf(m->messages[s->outcome], MEASURE_MESSAGE, "%s", s->message);
    if (s->outcome == OUTCOME_STATUS)
        count_status(m, s->status);
    m->n[s->outcome]++;
}

uint64_t measure_failed(const struct measure *m)
{
    uint64_t n = 0;
    for (int i = OUTCOME_OK + 1; i < OUTCOME_CANCELLED; i++)
        n += m->n[i];
    return n;
}

uint64_t measure_ended(const struct measure *m)
{
    return m->n[OUTCOME_OK] + measure_failed(m);
}

double measure_per_s(const struct measure *m, uint64_t n)
{
    return m->wall_us ? (double)n * 1e6 / (double)m->wall_us : 0;
}
