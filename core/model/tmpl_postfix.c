/* tmpl_postfix.c - what follows a value: subscripts, calls, filters, tests; and the targets of
 * assignments. Filters and tests are looked up by name here; that an unknown one may stand in a
 * branch that is never taken is for tmpl_scope.c and the evaluator to judge. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"

/* Takes over the arguments of a call: positional, keywords, *args, **kwargs. */
static int add_argument(struct tmpl_parser *p, struct tmpl_node *call, struct tmpl_node ***args,
                        struct tmpl_node ***keywords)
{
    uint32_t line = p->cur.line;
    if (p->cur.type == TOK_MUL || p->cur.type == TOK_POW) {
        bool is_kwargs = p->cur.type == TOK_POW;
        if (call->kid[4] || (!is_kwargs && call->kid[3]))
            return tmpl_syntax(p, line, "invalid syntax for function call expression");
        if (tmpl_advance(p))
            return tmpl_parse_failed(p);
        struct tmpl_node *n = tmpl_parse_expr(p, true);
        call->kid[is_kwargs ? 4 : 3] = n;
        return n ? 0 : tmpl_parse_failed(p);
    }
    const struct tmpl_token *next = p->cur.type == TOK_NAME ? tmpl_look(p) : &p->cur;
    if (!next)
        return tmpl_parse_failed(p);
    struct tmpl_node *n;
    if (p->cur.type == TOK_NAME && next->type == TOK_ASSIGN) {
        if (call->kid[4])
            return tmpl_syntax(p, line, "invalid syntax for function call expression");
        n = tmpl_node_new(p, N_KEYWORD, line);
        if (!n || !(n->str = tmpl_const_str(p, p->cur.s, p->cur.n)) || tmpl_advance(p) ||
            tmpl_advance(p) || !(n->kid[0] = tmpl_parse_expr(p, true)) || !tmpl_node_done(p, n))
            return tmpl_parse_failed(p);
        uint32_t n_keywords = 0;
        for (const struct tmpl_node *k = call->kid[2]; k; k = k->next, n_keywords++)
            if (k->str->n == n->str->n && memcmp(k->str->s, n->str->s, n->str->n) == 0)
                return tmpl_syntax(p, line, "keyword argument '%.*s' is repeated",
                                   tmpl_shown(n->str), n->str->s);
        if (n_keywords == TMPL_MAX_PARAMS)
            return err_set(p->e, LLMD_ELIMIT, "chat template line %u: over %d keyword arguments",
                           line, TMPL_MAX_PARAMS);
        **keywords = n;
        *keywords = &n->next;
        return 0;
    }
    if (call->kid[2] || call->kid[3] || call->kid[4])
        return tmpl_syntax(p, line, "invalid syntax for function call expression");
    n = tmpl_parse_expr(p, true);
    if (!n)
        return tmpl_parse_failed(p);
    **args = n;
    *args = &n->next;
    call->n_items++;
    return 0;
}

/* (a, b=c, *d, **e) into the children of call. */
static int parse_call_args(struct tmpl_parser *p, struct tmpl_node *call)
{
    struct tmpl_node **args = &call->kid[1], **keywords = &call->kid[2];
    bool need_comma = false;
    int rc = tmpl_expect(p, TOK_LPAREN, "'('");
    while (rc == 0 && p->cur.type != TOK_RPAREN) {
        if (need_comma) {
            rc = tmpl_expect(p, TOK_COMMA, "','");
            if (rc || p->cur.type == TOK_RPAREN)
                break;
        }
        rc = add_argument(p, call, &args, &keywords);
        need_comma = true;
    }
    return rc ? rc : tmpl_expect(p, TOK_RPAREN, "')'");
}

static struct tmpl_node *parse_call(struct tmpl_parser *p, struct tmpl_node *callee)
{
    struct tmpl_node *n = tmpl_node_new(p, N_CALL, p->cur.line);
    if (!n)
        return NULL;
    n->kid[0] = callee;
    return parse_call_args(p, n) ? NULL : tmpl_node_done(p, n);
}

static struct tmpl_node *parse_postfix(struct tmpl_parser *p, struct tmpl_node *n)
{
    while (n) {
        if (p->cur.type == TOK_DOT || p->cur.type == TOK_LBRACKET)
            n = tmpl_parse_subscript(p, n);
        else if (p->cur.type == TOK_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* A dotted name. */
static struct tmpl_str *parse_dotted(struct tmpl_parser *p)
{
    struct buf name = {0};
    struct tmpl_str *s = NULL;
    for (;;) {
        if (p->cur.type == TOK_NAME)
            buf_add(&name, p->cur.s, p->cur.n);
        if (tmpl_expect(p, TOK_NAME, "a name"))
            goto out;
        if (p->cur.type != TOK_DOT)
            break;
        buf_addch(&name, '.');
        if (tmpl_advance(p))
            goto out;
    }
    char *copy = name.failed ? NULL : arena_strndup(p->arena, buf_str(&name), name.len);
    if (copy)
        s = tmpl_const_str(p, copy, name.len);
    else
        err_set(p->e, LLMD_ENOMEM, "out of memory for a chat template");
out:
    buf_fini(&name);
    return s;
}

struct tmpl_node *tmpl_parse_filter(struct tmpl_parser *p, struct tmpl_node *value,
                                    bool start_inline)
{
    struct tmpl_node *n = value;
    while (p->cur.type == TOK_PIPE || start_inline) {
        if (!start_inline && tmpl_advance(p))
            return NULL;
        struct tmpl_node *filter = tmpl_node_new(p, N_FILTER, p->cur.line);
        if (!filter || !(filter->str = parse_dotted(p)))
            return NULL;
        filter->kid[0] = n;
        if (p->cur.type == TOK_LPAREN && parse_call_args(p, filter))
            return NULL;
        filter->fn = tmpl_find_filter(filter->str->s, filter->str->n);
        if (!(n = tmpl_node_done(p, filter)))
            return NULL;
        start_inline = false;
    }
    return n;
}

/* Whether the argument of a test follows without parentheses. */
static bool at_test_argument(const struct tmpl_parser *p)
{
    switch (p->cur.type) {
    case TOK_NAME:
        return !tmpl_cur_is(p, "else") && !tmpl_cur_is(p, "or") && !tmpl_cur_is(p, "and");
    case TOK_STRING:
    case TOK_INTEGER:
    case TOK_FLOAT:
    case TOK_LBRACKET:
    case TOK_LBRACE:
        return true;
    default:
        return false;
    }
}

/* is [not] name [argument] */
static struct tmpl_node *parse_test(struct tmpl_parser *p, struct tmpl_node *value)
{
    uint32_t line = p->cur.line;
    bool negated;
    if (tmpl_advance(p) || tmpl_skip_name(p, "not", &negated))
        return NULL;
    struct tmpl_node *n = tmpl_node_new(p, N_TEST, line);
    if (!n || !(n->str = parse_dotted(p)))
        return NULL;
    n->kid[0] = value;
    n->fn = tmpl_find_test(n->str->s, n->str->n);
    if (p->cur.type == TOK_LPAREN) {
        if (parse_call_args(p, n))
            return NULL;
    } else if (at_test_argument(p)) {
        if (tmpl_cur_is(p, "is")) {
            tmpl_syntax(p, p->cur.line, "tests cannot be chained with 'is'");
            return NULL;
        }
        struct tmpl_node *arg = tmpl_parse_primary(p, false);
        if (!arg || !(arg = parse_postfix(p, arg)))
            return NULL;
        n->kid[1] = arg;
        n->n_items = 1;
    }
    if (!tmpl_node_done(p, n) || !negated)
        return p->e->code ? NULL : n;
    struct tmpl_node *not = tmpl_node_new(p, N_NOT, line);
    if (!not )
        return NULL;
    not ->kid[0] = n;
    return tmpl_node_done(p, not );
}

static struct tmpl_node *parse_filter_expr(struct tmpl_parser *p, struct tmpl_node *n)
{
    while (n) {
        if (p->cur.type == TOK_PIPE)
            n = tmpl_parse_filter(p, n, false);
        else if (tmpl_cur_is(p, "is"))
            n = parse_test(p, n);
        else if (p->cur.type == TOK_LPAREN)
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

struct tmpl_node *tmpl_parse_unary(struct tmpl_parser *p, bool with_filter)
{
    struct tmpl_node *n;
    if (p->cur.type == TOK_SUB || p->cur.type == TOK_ADD) {
        n = tmpl_node_new(p, N_UNARY, p->cur.line);
        if (!n || !tmpl_parse_enter(p))
            return NULL;
        n->op = p->cur.type == TOK_SUB ? OP_NEG : OP_POS;
        if (tmpl_advance(p) || !(n->kid[0] = tmpl_parse_leave(p, tmpl_parse_unary(p, false))))
            return NULL;
        n = tmpl_node_done(p, n);
    } else
        n = tmpl_parse_primary(p, false);
    n = n ? parse_postfix(p, n) : NULL;
    return n && with_filter ? parse_filter_expr(p, n) : n;
}

struct tmpl_node *tmpl_parse_name(struct tmpl_parser *p, enum tmpl_ctx ctx)
{
    struct tmpl_token t = p->cur;
    if (tmpl_expect(p, TOK_NAME, "a name"))
        return NULL;
    struct tmpl_node *n = tmpl_node_new(p, N_NAME, t.line);
    if (!n || !(n->name = tmpl_intern(p, t.s, t.n)))
        return NULL;
    n->ctx = (uint8_t)ctx;
    return n;
}

/* Whether n can be assigned to; its names become targets. */
static bool make_target(struct tmpl_node *n)
{
    if (n->kind != N_TUPLE) {
        n->ctx = CTX_STORE;
        return n->kind == N_NAME || n->kind == N_NSREF;
    }
    for (struct tmpl_node *item = n->kid[0]; item; item = item->next)
        if (!make_target(item))
            return false;
    return true;
}

struct tmpl_node *tmpl_parse_target(struct tmpl_parser *p, bool with_namespace, const char *end)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n =
        tmpl_parse_tuple(p, TUPLE_SIMPLE | (with_namespace ? TUPLE_NAMESPACE : 0), end);
    if (!n || make_target(n))
        return n;
    tmpl_syntax(p, line, "can only assign to names");
    return NULL;
}
