/* tmpl_for.c - runs loops. */
#include "core/model/tmpl_exec_int.h"

/* `for ... if`: the items of the iterable that pass the test. */
struct filtered {
    const struct tmpl_node *n;
    struct tmpl_act *act, *outer;
    struct tmpl_val iterable;
    struct tmpl_iter it;
    bool started;
};

static int next_passing(struct tmpl_run *r, struct filtered *f, const struct tmpl_for_scope *info,
                        struct tmpl_val *out, bool *done)
{
    struct tmpl_val test;
    int rc = 0;
    if (!f->started) {
        f->started = true;
        if ((rc = tmpl_enter_frame(r, &info->test)) ||
            (rc = tmpl_iter_init(r, &f->iterable, &f->it)))
            return rc;
    }
    while (rc == 0 && (rc = tmpl_next(r, &f->it, out, done)) == 0 && !*done) {
        rc = tmpl_assign(r, info->test_target, out);
        if (rc == 0)
            rc = tmpl_eval(r, f->n->kid[4], &test);
        if (rc == 0 && tmpl_truthy(&test))
            return 0;
    }
    return rc;
}

static int next_filtered(struct tmpl_run *r, struct tmpl_iter *it, struct tmpl_val *out, bool *done)
{
    struct filtered *f = it->state;
    struct tmpl_act *act = r->act;
    r->act = f->act;
    int rc = next_passing(r, f, f->n->scope, out, done);
    r->act = act;
    return rc;
}

static int filter_loop(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_act *outer,
                       struct tmpl_val *iterable)
{
    const struct tmpl_for_scope *info = n->scope;
    struct filtered *f = tmpl_alloc(r, sizeof(*f));
    if (!f || !(f->act = tmpl_act_new(r, info->test_func, outer)))
        return tmpl_failed(r);
    f->n = n;
    f->iterable = *iterable;
    return tmpl_iter_val(r, next_filtered, f, iterable);
}

/* One pass through the body. *complete: it ran to its end. */
static int loop_body(struct tmpl_run *r, const struct tmpl_node *n, const struct tmpl_val *item,
                     const struct tmpl_val *loop, bool *complete)
{
    const struct tmpl_for_scope *info = n->scope;
    int rc = tmpl_enter_frame(r, &info->body);
    if (rc == 0 && loop)
        r->act->slots[info->loop_slot] = *loop;
    if (rc == 0)
        rc = tmpl_assign(r, n->kid[0], item);
    if (rc == 0)
        rc = tmpl_exec(r, n->kid[2]);
    *complete = r->control == CTL_NONE;
    return rc;
}

/* The loop over an iterable, in the function that holds it. outer: the function of the test. */
static int run_loop(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_val *iterable,
                    struct tmpl_act *outer, int64_t depth0)
{
    const struct tmpl_for_scope *info = n->scope;
    struct tmpl_val item, loop_val;
    bool done = false, any = false, complete = false, leave = false;
    int rc = info->test_func ? filter_loop(r, n, outer, iterable) : 0;
    struct tmpl_loop *l = rc ? NULL : tmpl_alloc(r, sizeof(*l));
    if (!l)
        return tmpl_failed(r);
    *l = (struct tmpl_loop){.iterable = *iterable,
                            .index0 = -1,
                            .length = -1,
                            .depth0 = depth0,
                            .recurse = n->recursive ? n : NULL,
                            .act = outer};
    loop_val = (struct tmpl_val){.type = TV_LOOP, .loop = l};
    rc = tmpl_iter_init(r, iterable, &l->it);
    while (rc == 0 && !leave && (rc = tmpl_loop_next(r, l, &item, &done)) == 0 && !done) {
        rc = loop_body(r, n, &item, info->has_loop ? &loop_val : NULL, &complete);
        any |= complete;
        leave = r->control == CTL_BREAK;
        r->control = CTL_NONE;
    }
    tmpl_leave_frame(r, &info->body);
    /* As compiled by Jinja: the else part runs unless a pass reached the end of the body. */
    if (rc == 0 && n->kid[3] && !any) {
        rc = tmpl_enter_frame(r, &info->other);
        if (rc == 0)
            rc = tmpl_exec(r, n->kid[3]);
        tmpl_leave_frame(r, &info->other);
    }
    return rc;
}

/* A recursive loop is a function of its own. */
static int call_loop(struct tmpl_run *r, const struct tmpl_node *n, struct tmpl_act *outer,
                     const struct tmpl_val *iterable, int64_t depth0, struct tmpl_val *out)
{
    const struct tmpl_for_scope *info = n->scope;
    struct tmpl_act *saved = r->act;
    struct tmpl_val v = *iterable;
    struct tmpl_capture c;
    struct tmpl_act *act = tmpl_act_new(r, info->loop_func, outer);
    if (!act)
        return tmpl_failed(r);
    r->act = act;
    tmpl_capture_begin(r, &c);
    int rc = run_loop(r, n, &v, outer, depth0);
    r->act = saved;
    return tmpl_capture_end(r, &c, rc, out);
}

int tmpl_loop_call(struct tmpl_run *r, struct tmpl_loop *l, const struct tmpl_val *iterable,
                   struct tmpl_val *out)
{
    if (!l->recurse)
        return tmpl_raise(r, EXC_TYPE, "the loop must be 'recursive' to be called recursively");
    return call_loop(r, l->recurse, l->act, iterable, l->depth0 + 1, out);
}

int tmpl_exec_for(struct tmpl_run *r, const struct tmpl_node *n)
{
    struct tmpl_val iterable, text;
    int rc = tmpl_eval(r, n->kid[1], &iterable);
    if (rc)
        return rc;
    if (!n->recursive)
        return run_loop(r, n, &iterable, r->act, 0);
    rc = call_loop(r, n, r->act, &iterable, 0, &text);
    return rc ? rc : tmpl_write(r, text.str->s, text.str->n);
}
