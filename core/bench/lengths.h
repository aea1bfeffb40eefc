/* lengths.h - how long prompts and answers are: a distribution of token counts.
 *
 *   128                   always
 *   64-256                uniform, both ends included
 *   normal:256,64         mean and standard deviation
 *   lognormal:256,128     mean and standard deviation of the lengths themselves, not of their logarithm
 *
 * What is drawn is rounded and kept within 1 and LENGTHS_MAX. */
#pragma once
#include "core/bench/rng.h"
#include "core/util/base.h"
#include "core/util/err.h"

enum { LENGTHS_MAX = 1 << 20 };

enum lengths_kind { LENGTHS_FIXED, LENGTHS_UNIFORM, LENGTHS_NORMAL, LENGTHS_LOGNORMAL };

struct lengths {
    enum lengths_kind kind;
    double a, b; /* fixed: a; uniform: a to b; normal: mean, deviation; lognormal: mu, sigma */
};

/* EINVAL, with a message that shows the forms. */
MUST_CHECK int lengths_parse(struct lengths *l, const char *text, struct err *e);
uint32_t lengths_draw(const struct lengths *l, struct rng *r);
