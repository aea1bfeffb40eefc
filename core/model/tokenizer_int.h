/* tokenizer_int.h - a tokenizer, as the files of the tokenizer see it. */
#pragma once
#include "core/model/added_int.h"
#include "core/model/bpe_int.h"
#include "core/model/nfc_int.h"
#include "core/model/pretok_int.h"
#include "core/model/tokenizer.h"

struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    enum tokenizer_form form;
    bool nfc, add_prefix_space, spaces_normalized, split_spaces;
    bool strip_first_space, drop_first_spaces;
    enum space_prefix space_prefix;
    struct added raw;            /* found in the text as it comes */
    struct added normalized;     /* found in what normalization makes of the rest */
    const struct pretok *pretok; /* NULL: TOKENIZER_SPM */
    struct char_classes classes;
    struct nfc nfc_table;
    uint32_t *prefix_ids, *suffix_ids; /* around a text that shall have special tokens */
    uint32_t n_prefix_ids, n_suffix_ids;
    uint32_t *eos_ids;
    uint32_t n_eos_ids;
};

/* Makes *out the normalized text of a stretch, or leaves it alone and returns true where the
 * stretch is that already. */
bool tokenizer_normalize(const struct tokenizer *t, const char *s, size_t n, struct buf *out);
