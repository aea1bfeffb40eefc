#include "core/bench/lengths.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Two numbers with sep between, or one when sep is 0; nothing may follow. */
static bool numbers(const char *text, char sep, double *out_a, double *out_b)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *out_a = strtod(text, &end);
    if (sep) {
        if (*end != sep || end[1] < '0' || end[1] > '9')
            return false;
        *out_b = strtod(end + 1, &end);
    }
    return *end == '\0' && *out_a <= LENGTHS_MAX && *out_b <= LENGTHS_MAX;
}

static bool parse(struct lengths *l, const char *text)
{
    static const char normal[] = "normal:", lognormal[] = "lognormal:";
    double a = 0, b = 0;
    if (strncmp(text, normal, strlen(normal)) == 0) {
        if (!numbers(text + strlen(normal), ',', &a, &b) || a < 1)
            return false;
        *l = (struct lengths){LENGTHS_NORMAL, a, b};
    } else if (strncmp(text, lognormal, strlen(lognormal)) == 0) {
        if (!numbers(text + strlen(lognormal), ',', &a, &b) || a < 1)
            return false;
        double sigma2 = log1p((b / a) * (b / a));
        *l = (struct lengths){LENGTHS_LOGNORMAL, log(a) - sigma2 / 2, sqrt(sigma2)};
    } else if (numbers(text, 0, &a, &b)) {
        if (a < 1 || a != floor(a))
            return false;
        *l = (struct lengths){LENGTHS_FIXED, a, a};
    } else {
        if (!numbers(text, '-', &a, &b) || a < 1 || b < a || a != floor(a) || b != floor(b))
            return false;
        *l = (struct lengths){LENGTHS_UNIFORM, a, b};
    }
    return true;
}

int lengths_parse(struct lengths *l, const char *text, struct err *e)
{
    if (parse(l, text))
        return 0;
    return err_set(e, LLMD_EINVAL,
                   "'%s' is no length; write 128, 64-256, normal:MEAN,SD or lognormal:MEAN,SD, "
                   "from 1 to %d tokens",
                   text, LENGTHS_MAX);
}

uint32_t lengths_draw(const struct lengths *l, struct rng *r)
{
    double v = l->a;
    switch (l->kind) {
    case LENGTHS_FIXED:
        break;
    case LENGTHS_UNIFORM:
        v = l->a + rng_below(r, (uint32_t)(l->b - l->a) + 1);
        break;
    case LENGTHS_NORMAL:
        v = l->a + l->b * rng_normal(r);
        break;
    case LENGTHS_LOGNORMAL:
        v = exp(l->a + l->b * rng_normal(r));
        break;
    }
    return v < 1 ? 1 : v > LENGTHS_MAX ? LENGTHS_MAX : (uint32_t)lround(v);
}
