/* tmpl_text_int.h - text as Python's str sees it: characters, their classes and their case.
 *
 * All functions take valid UTF-8; they count characters or bytes as their names say. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

/* --- characters (tmpl_text.c) --- */
/* The character at s (valid UTF-8, not at the end) and its length in bytes. */
size_t tmpl_char_at(const char *s, uint32_t *out_cp);
/* Start of the character before position i > 0. */
size_t tmpl_char_before(const char *s, size_t i, uint32_t *out_cp);
size_t tmpl_count_chars(const char *s, size_t n);
/* Byte offset of the k-th character (k <= their number). */
size_t tmpl_char_offset(const char *s, size_t n, size_t k);

bool tmpl_is_space(uint32_t cp);
bool tmpl_is_linebreak(uint32_t cp); /* where splitlines splits */
bool tmpl_is_alpha(uint32_t cp);
bool tmpl_is_decimal(uint32_t cp);
bool tmpl_is_digit(uint32_t cp);
bool tmpl_is_numeric(uint32_t cp);
bool tmpl_is_printable(uint32_t cp);
bool tmpl_is_upper(uint32_t cp);
bool tmpl_is_lower(uint32_t cp);
bool tmpl_is_title(uint32_t cp);
bool tmpl_is_case_ignorable(uint32_t cp);
static inline bool tmpl_is_alnum(uint32_t cp)
{
    return tmpl_is_alpha(cp) || tmpl_is_numeric(cp);
}

/* Bytes of white space that s starts with; length without the white space that it ends with. */
size_t tmpl_space_prefix(const char *s, size_t n);
size_t tmpl_rstrip_space(const char *s, size_t n);
/* Bytes of letters, digits, marks and '_' that s starts with. */
size_t tmpl_name_prefix(const char *s, size_t n);
bool tmpl_is_identifier(const char *s, size_t n);
#define TMPL_NOT_FOUND SIZE_MAX
/* First occurrence at or after `from`; last occurrence (slow for long `sub`: n * n_sub). */
size_t tmpl_find(const char *s, size_t n, const char *sub, size_t n_sub, size_t from);
size_t tmpl_rfind(const char *s, size_t n, const char *sub, size_t n_sub);

/* --- case (tmpl_case.c), full mappings --- */
enum tmpl_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP, CASE_FOLD };
void tmpl_add_case(struct buf *b, const char *s, size_t n, enum tmpl_case to);
