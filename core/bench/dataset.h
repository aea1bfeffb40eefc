/* dataset.h - prompts from a file: JSON lines, or one JSON array, of objects with
 *
 *   "prompt": "text"                                      both endpoints
 *   "messages": [{"role": ..., "content": ...}, ...]      chat
 *   "conversations": [{"from": "human", "value": "text"}, ...]     ShareGPT; its first question
 *
 * and, if wanted, "max_tokens" (or "output_tokens"). Lines without any of them are an error that
 * names the line.
 * Memory  owned. Read-only once loaded. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct dataset_entry {
    char *said;             /* as it stands in a request: messages without brackets, or the inside
                             * of a JSON string */
    uint32_t output_tokens; /* 0: not said */
};

struct dataset {
    struct dataset_entry *entries; /* [n] */
    uint32_t n, cap;
};

/* chat: for /v1/chat/completions. EIO, ENOTFOUND, EPARSE, EINVAL, ENOMEM. */
MUST_CHECK int dataset_load(struct dataset *d, const char *path, bool chat, struct err *e);
void dataset_free(struct dataset *d); /* a zeroed one is fine */
/* Entry number modulo n. */
const struct dataset_entry *dataset_at(const struct dataset *d, uint64_t number);
