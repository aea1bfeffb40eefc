/* calibrate.h - how many tokens our words are for this server.
 *
 * Two short requests, one token each: the first words of the list, and the whole list. Their
 * usage.prompt_tokens give tokens per word and what the server adds around a text. A server that
 * reports no usage, or that cannot take 300 tokens, leaves one token per word. */
#pragma once
#include "core/bench/fetch.h"
#include "core/bench/workload.h"

/* *out_measured: the scale is the server's. An answer without usage is no error; one that is not 2xx
 * is, with the server's message: the load would meet the same. */
MUST_CHECK int calibrate(const struct fetch *f, const struct workload_opts *o,
                         struct word_scale *out, bool *out_measured, struct err *e);
