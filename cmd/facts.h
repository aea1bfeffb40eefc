/* facts.h - what a model is, in numbers, for `llmd check`. */
#pragma once
#include "core/backend/backend.h"
#include "core/model/model.h"
#include "core/util/buf.h"

struct facts {
    uint64_t n_params;
    size_t bytes_of[DTYPE_COUNT]; /* weights by their type */
    uint64_t kv_token_bytes;      /* of the cache, on the CPU */
    char fault[512];              /* why this build cannot run it; "" when it can */
};

void facts_of(const struct model *m, enum compute_type compute, struct facts *out);
/* "Q4_1 + Q8_0 + F32": the types by their share. */
void facts_add_dtypes(const struct facts *f, struct buf *out);
/* The model as paragraphs, or as one JSON object. */
void facts_print(const struct model *m, const struct facts *f, struct buf *out);
void facts_print_json(const struct model *m, const struct facts *f, struct buf *out);
