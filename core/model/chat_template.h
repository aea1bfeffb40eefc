/* chat_template.h - renders the Jinja chat template that comes with a model.
 *
 * The language is the subset of Jinja that model templates use, with the settings that
 * transformers uses: ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls,
 * keep_trailing_newline off, `tojson` without HTML escaping, `raise_exception`, `strftime_now`.
 * Output is identical, byte for byte, to Python jinja2's; so is what is refused.
 *
 * Templates come from model files and are not trusted: rendering ends at limits on evaluation
 * steps, nesting depth, memory and output size, and can reach nothing but the context given.
 *
 * Refused beyond what jinja2 refuses, by name and line: template inheritance, include and import,
 * autoescape, integers beyond 64 bits, complex numbers, sets and bytes, lone surrogates, the text
 * of objects that shows a memory address, what draws random numbers (lipsum, |random), and the
 * filters pprint, striptags, urlize and wordwrap.
 *
 * Thread  a parsed template is immutable: any number of threads may render it at once. */
#pragma once
#include <jansson.h>

#include "core/util/base.h"
#include "core/util/buf.h"
#include "core/util/err.h"

struct chat_template;

struct chat_template_limits {
    uint64_t max_steps;      /* evaluated nodes; 0: default 2,000,000 */
    uint32_t max_depth;      /* nested evaluations; 0: default 1000 (0.5 MiB of stack) */
    size_t max_output_bytes; /* 0: default 16 MiB */
    size_t max_memory_bytes; /* for values in between, beside the context; 0: default 64 MiB */
    int64_t now_unix_s;      /* what strftime_now takes for the time; 0: ask the clock */
};

/* EPARSE with template line for a syntax error, EUNSUPPORTED for a construct we lack, ELIMIT for
 * a source over 1 MiB or too deeply nested. */
MUST_CHECK int chat_template_parse(const char *source, size_t n, struct chat_template **out,
                                   struct err *e);
void chat_template_free(struct chat_template *t); /* NULL is fine */

/* Renders with the top-level variables in `context` (a JSON object: messages, tools, documents,
 * add_generation_prompt, bos_token, ...), appending to out. limits may be NULL. transformers always
 * passes tools and documents, as null when there are none; templates can tell the difference.
 * EINVAL: the template refused (raise_exception) or jinja2 would raise; e->msg says what, with
 * the template line. ELIMIT: a limit was reached. ENOMEM. out keeps its old length on failure. */
MUST_CHECK int chat_template_render(const struct chat_template *t, const json_t *context,
                                    const struct chat_template_limits *limits, struct buf *out,
                                    struct err *e);
