/* bpe_symbols.c - the tokens that a piece begins as, before merging. */
#include "core/model/bpe_merge_int.h"
#include "core/model/pretok_scan_int.h"

void bpe_symbols_init(struct bpe *b)
{
    b->space_id = vocab_find_own(b->vocab, SPM_SPACE, SPM_SPACE_N);
    if (!b->by_characters) {
        vocab_byte_ids(b->vocab, b->byte_ids);
        return;
    }
    vocab_fallback_ids(b->vocab, b->byte_ids);
    for (unsigned c = 0; c < 128; c++) {
        char s = (char)c;
        b->ascii_ids[c] = vocab_find_own(b->vocab, &s, 1);
    }
}

/* Where symbols go. An unknown one is written late, when the next known one comes: so a run of
 * them can become one. */
struct symbols {
    const struct bpe *b;
    uint32_t *ids;
    size_t n;
    bool unk_waits;
};

static void flush_unk(struct symbols *y)
{
    if (y->unk_waits)
        y->ids[y->n++] = y->b->unk_id;
    y->unk_waits = false;
}

static void add_unk(struct symbols *y)
{
    if (y->b->unk_id == TEXT_NONE)
        return;
    if (!y->b->fuse_unk)
        flush_unk(y);
    y->unk_waits = true;
}

static void bytes_as_symbols(struct symbols *y, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t id = y->b->byte_ids[(unsigned char)s[i]];
        if (id == TEXT_NONE) {
            add_unk(y);
            continue;
        }
        flush_unk(y);
        y->ids[y->n++] = id;
    }
}

/* A character that no token writes. As in `tokenizers`, an unknown one before it waits on. */
static void fall_back(struct symbols *y, const char *s, size_t n)
{
    bool all = y->b->byte_fallback;
    for (size_t i = 0; i < n && all; i++)
        all = y->b->byte_ids[(unsigned char)s[i]] != TEXT_NONE;
    if (!all) {
        add_unk(y);
        return;
    }
    for (size_t i = 0; i < n; i++)
        y->ids[y->n++] = y->b->byte_ids[(unsigned char)s[i]];
}

static void characters_as_symbols(struct symbols *y, const char *s, size_t n)
{
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t cp, id;
        len = decode_valid(s + i, &cp);
        if (cp < 0x80)
            id = y->b->ascii_ids[cp];
        else
            id = cp == 0x2581 ? y->b->space_id : vocab_find_own(y->b->vocab, s + i, len);
        if (id == TEXT_NONE) {
            fall_back(y, s + i, len);
            continue;
        }
        flush_unk(y);
        y->ids[y->n++] = id;
    }
}

size_t bpe_symbols(const struct bpe *b, const char *s, size_t n, uint32_t out_ids[])
{
    struct symbols y = {b, out_ids, 0, false};
    if (b->by_characters)
        characters_as_symbols(&y, s, n);
    else
        bytes_as_symbols(&y, s, n);
    flush_unk(&y);
    return y.n;
}
