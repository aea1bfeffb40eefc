/* tmpl_exec_int.h - what the files that run statements share. */
#pragma once
#include "core/model/tmpl_ast_int.h"

/* The record that a place with so many hops is in. */
struct tmpl_act *tmpl_act_at(struct tmpl_run *r, uint32_t hops);
/* A record for one call of a function; NULL: the error is set. */
struct tmpl_act *tmpl_act_new(struct tmpl_run *r, const struct tmpl_func *f,
                              struct tmpl_act *parent);
/* Fills the slots of a scope / makes them unset again. */
MUST_CHECK int tmpl_enter_frame(struct tmpl_run *r, const struct tmpl_frame *f);
void tmpl_leave_frame(struct tmpl_run *r, const struct tmpl_frame *f);

/* Output that becomes a string instead. */
struct tmpl_capture {
    struct buf *outer;
    struct buf text;
    size_t held_before;
};
void tmpl_capture_begin(struct tmpl_run *r, struct tmpl_capture *c);
/* Ends the capture whatever rc says; the text becomes a string when rc is 0. */
MUST_CHECK int tmpl_capture_end(struct tmpl_run *r, struct tmpl_capture *c, int rc,
                                struct tmpl_val *out);

MUST_CHECK int tmpl_write_val(struct tmpl_run *r, const struct tmpl_val *v);
MUST_CHECK int tmpl_assign(struct tmpl_run *r, const struct tmpl_node *target,
                           const struct tmpl_val *v);

/* Statements: for (tmpl_for.c), macro and call (tmpl_macro.c). */
MUST_CHECK int tmpl_exec_for(struct tmpl_run *r, const struct tmpl_node *n);
MUST_CHECK int tmpl_exec_macro(struct tmpl_run *r, const struct tmpl_node *n);
MUST_CHECK int tmpl_exec_call_block(struct tmpl_run *r, const struct tmpl_node *n);
