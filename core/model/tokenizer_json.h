/* tokenizer_json.h - a tokenizer from the tokenizer.json of a Hugging Face model.
 *
 * Everything in the file that could change an id is understood or refused by name, with the list
 * of what is known: the model (BPE alone), the normalizer, the split patterns, the decoder, the
 * post-processor. `truncation` and `padding` are the caller's business and not read, as in
 * transformers. A switch at the value where it changes nothing is fine.
 *
 * What is added around a text (TOKENIZE_ADD_SPECIAL) is the post-processor's word alone:
 * `add_bos_token` of tokenizer_config.json is for models without a tokenizer.json, and
 * transformers drops it, too, where this file lies.
 *
 * Thread  no shared state.
 * Memory  the file is mapped for the length of the call; the tokenizer keeps its own copies.
 * Errors  ENOTFOUND, EIO; EPARSE for what is malformed or contradicts itself; EUNSUPPORTED for
 *         what is sound but not known here; ELIMIT; ENOMEM. The message names file, key and fault.
 * Source  the files that tokenizers 0.2x writes; token for token as its Tokenizer.from_file. */
#pragma once
#include "core/model/tokenizer.h"

/* What the model's other files say; all of it may be absent (zero). */
struct tokenizer_json_opts {
    uint32_t n_vocab; /* rows of the embedding: a token past them is refused; 0: not known */
    /* Ids that end generation, first one first: `eos_token_id` of generation_config.json, else of
     * config.json. eos_complete: from generation_config.json, so that this is the model's whole
     * word and known ends of a turn are not counted besides. */
    const uint32_t *eos_ids;
    uint32_t n_eos_ids;
    bool eos_complete;
    /* Written forms from tokenizer_config.json. eos_token ends generation, too; one that is no
     * token is refused where no eos_ids are given. */
    const char *bos_token, *eos_token;
};

/* o may be NULL. */
MUST_CHECK int tokenizer_json_load(const char *path, const struct tokenizer_json_opts *o,
                                   struct tokenizer **out, struct err *e);
/* The same from memory; source names it in messages. */
MUST_CHECK int tokenizer_json_parse(const char *text, size_t n, const char *source,
                                    const struct tokenizer_json_opts *o, struct tokenizer **out,
                                    struct err *e);
