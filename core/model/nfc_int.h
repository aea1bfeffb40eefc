/* nfc_int.h - Unicode normalization form C.
 *
 * Almost all text is in this form already. A character is stable when NFC leaves it as it is and
 * it neither moves nor joins with what stands before it; only the stretches from a stable
 * character over unstable ones to the next stable one are worked on.
 *
 * Time    linear, also for a megabyte of marks.
 * Thread  immutable after nfc_init.
 * Source  Unicode Standard Annex 15; the tables are those of Hugging Face `tokenizers`, asked code
 *         point by code point (tests/golden/gen_nfc_tables.py). */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

struct nfc_decomposition {
    uint32_t cp;
    uint16_t first; /* in nfc_parts */
    uint8_t n;
};
struct nfc_pair {
    uint32_t first, second, joined;
};

extern const uint32_t nfc_class_runs[]; /* first code point << 8 | class, ascending */
extern const uint32_t nfc_class_runs_n;
extern const struct nfc_decomposition nfc_decompositions[]; /* ascending; without Hangul */
extern const uint32_t nfc_decompositions_n;
extern const uint32_t nfc_parts[];
extern const uint32_t nfc_parts_n;
extern const struct nfc_pair nfc_pairs[]; /* ascending; without Hangul */
extern const uint32_t nfc_pairs_n;
extern const uint32_t nfc_unstable_edges[]; /* where runs begin and end, ascending */
extern const uint32_t nfc_unstable_edges_n;

#define NFC_TABLE_END 0x20000u

struct nfc {
    uint8_t unstable[NFC_TABLE_END / 8]; /* one bit for each code point of the first planes */
};

void nfc_init(struct nfc *f);
/* Length of the longest prefix of s, valid UTF-8, that holds only stable characters. Where that is
 * all of s, it is in normalization form C. */
size_t nfc_stable_prefix(const struct nfc *f, const char *s, size_t n);
/* Appends s, valid UTF-8, in normalization form C. */
void nfc_add(const struct nfc *f, struct buf *out, const char *s, size_t n);
