/* words.h - prompts of a wanted length: common words, which most vocabularies hold whole.
 *
 * The k-th word of a text depends on the text's key and on k alone, so that two prompts with the same
 * key begin with the same words, for as long as one wants. How many tokens a word makes, and how
 * many the server adds around the text, is measured (calibrate.h). */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

enum { WORDS_N = 256 };

struct word_scale {
    double tokens_per_word;
    double overhead_tokens; /* chat template and such */
};

/* How many words make a prompt of so many tokens: at least one. */
uint32_t words_for(const struct word_scale *s, uint32_t tokens);
/* Appends words from..to-1 of the text `key`, each with a blank in front unless it is the first of
 * the buf's text that began at `start`. */
void words_add(struct buf *b, size_t start, uint64_t key, uint32_t from, uint32_t to);
/* Appends the first n words of the list itself: every word once, in order; n <= WORDS_N. */
void words_add_list(struct buf *b, uint32_t n);
/* The same as token ids low..high: "17, 9"; the caller puts brackets around. */
void words_add_ids(struct buf *b, size_t start, uint64_t key, uint32_t from, uint32_t to,
                   uint32_t low, uint32_t high);
