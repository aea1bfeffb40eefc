/* tmpl_run.c - errors, limits and output of one rendering. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/tmpl_val_int.h"
#include "core/util/printable.h"

enum { WORK_PER_STEP = 256 }; /* bytes or elements that count as one step */

PRINTF_LIKE(4, 0)
static int fail(struct tmpl_run *r, enum tmpl_exc exc, int code, const char *fmt, va_list ap)
{
    char msg[400], line[400];
    if (r->exc != EXC_NONE)
        return tmpl_failed(r);
    r->exc = (uint8_t)exc;
    vsnprintf(msg, sizeof(msg), fmt, ap);
    printable_text(msg, strlen(msg), "", line, sizeof(line));
    err_clear(r->e);
    return err_set(r->e, code, "chat template line %u: %s", r->line, line);
}

int tmpl_raise_at(struct tmpl_run *r, enum tmpl_exc exc, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = fail(r, exc, LLMD_EINVAL, fmt, ap);
    va_end(ap);
    return rc;
}

int tmpl_limit_at(struct tmpl_run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = fail(r, EXC_FATAL, LLMD_ELIMIT, fmt, ap);
    va_end(ap);
    return rc;
}

int tmpl_unsupported_at(struct tmpl_run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = fail(r, EXC_FATAL, LLMD_EUNSUPPORTED, fmt, ap);
    va_end(ap);
    return rc;
}

PRINTF_LIKE(2, 3)
static int no_memory(struct tmpl_run *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int rc = fail(r, EXC_FATAL, LLMD_ENOMEM, fmt, ap);
    va_end(ap);
    return rc;
}

bool tmpl_catch(struct tmpl_run *r, unsigned classes)
{
    if (!(r->exc & classes))
        return false;
    r->exc = EXC_NONE;
    err_clear(r->e);
    return true;
}

int tmpl_raise_undef_at(struct tmpl_run *r, const struct tmpl_val *v)
{
    const struct tmpl_undef *u = v->undef;
    if (u->why == UNDEF_HINT)
        return tmpl_raise(r, EXC_OTHER, "%s", u->owner);
    struct buf name = {0};
    int rc = tmpl_add_repr(r, &name, &u->name);
    if (rc == 0) {
        const char *s = buf_str(&name);
        if (u->why == UNDEF_NAME)
            rc = tmpl_raise(r, EXC_OTHER, "%.100s is undefined", s);
        else if (u->why == UNDEF_UNSAFE)
            rc = tmpl_raise(r, EXC_OTHER, "access to attribute %.100s of '%s' object is unsafe", s,
                            u->owner);
        else
            rc = tmpl_raise(r, EXC_OTHER, "'%s object' has no %s %.100s", u->owner,
                            u->name.type == TV_STR ? "attribute" : "element", s);
    }
    buf_fini(&name);
    return rc;
}

void *tmpl_alloc(struct tmpl_run *r, size_t n_bytes)
{
    void *p = arena_alloc(&r->arena, n_bytes ? n_bytes : 1);
    if (p)
        return p;
    size_t left = r->arena.max_bytes - r->arena.used_bytes;
    if (r->arena.max_bytes && (left < 16 || n_bytes > left - 16))
        (void)tmpl_memory_limit(r);
    else
        no_memory(r, "out of memory for %zu bytes", n_bytes);
    return NULL;
}

void *tmpl_array(struct tmpl_run *r, size_t n, size_t size_bytes)
{
    size_t total;
    if (size_mul(n, size_bytes, &total))
        return tmpl_alloc(r, total);
    tmpl_limit(r, "the rendering needs too much memory");
    return NULL;
}

int tmpl_charge(struct tmpl_run *r, size_t n)
{
    uint64_t steps = n / WORK_PER_STEP + 1;
    if (steps > r->steps_left) {
        r->steps_left = 0;
        return tmpl_limit(r, "the rendering takes too many steps");
    }
    r->steps_left -= steps;
    return 0;
}

int tmpl_enter(struct tmpl_run *r)
{
    if (r->depth >= r->max_depth)
        return tmpl_limit(r, "evaluation is nested deeper than %u levels", r->max_depth);
    r->depth++;
    return 0;
}

void tmpl_leave(struct tmpl_run *r)
{
    r->depth--;
}

struct buf tmpl_scratch(const struct tmpl_run *r)
{
    size_t left = r->arena.max_bytes - r->arena.used_bytes;
    return (struct buf){.max_len = left ? left : 1};
}

int tmpl_write(struct tmpl_run *r, const char *s, size_t n)
{
    bool is_root = r->out == r->root_out;
    size_t held = is_root ? r->out->len - r->out_from : r->held_bytes;
    if (n > r->max_output_bytes - held)
        return tmpl_limit(r, "the output is larger than %zu bytes", r->max_output_bytes);
    buf_add(r->out, s, n);
    if (r->out->failed)
        return no_memory(r, "out of memory for the output");
    if (!is_root)
        r->held_bytes += n;
    return tmpl_charge(r, n);
}
