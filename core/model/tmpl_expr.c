/* tmpl_expr.c - parser of expressions; the grammar is Jinja's, rule for rule. */
#include <string.h>

#include "core/model/tmpl_ast_int.h"

bool tmpl_parse_enter(struct tmpl_parser *p)
{
    if (p->depth++ < TMPL_MAX_EXPR_DEPTH)
        return true;
    err_set(p->e, LLMD_ELIMIT, "chat template line %u: expression is nested too deeply",
            p->cur.line);
    return false;
}

struct tmpl_node *tmpl_parse_leave(struct tmpl_parser *p, struct tmpl_node *n)
{
    p->depth--;
    return n;
}

/* Appends to a list of siblings. */
static void append(struct tmpl_node ***tail, struct tmpl_node *n)
{
    **tail = n;
    *tail = &n->next;
}

static struct tmpl_node *make2(struct tmpl_parser *p, enum tmpl_kind kind, int op, uint32_t line,
                               struct tmpl_node *a, struct tmpl_node *b)
{
    struct tmpl_node *n = tmpl_node_new(p, kind, line);
    if (!n)
        return NULL;
    n->op = (uint8_t)op;
    n->kid[0] = a;
    n->kid[1] = b;
    return tmpl_node_done(p, n);
}

static struct tmpl_node *parse_or(struct tmpl_parser *p);

static struct tmpl_node *parse_cond(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_or(p);
    bool has_if, has_else;
    while (n) {
        if (tmpl_skip_name(p, "if", &has_if))
            return NULL;
        if (!has_if)
            break;
        struct tmpl_node *test = parse_or(p), *other = NULL;
        if (!test || tmpl_skip_name(p, "else", &has_else))
            return NULL;
        if (has_else) {
            other = tmpl_parse_expr(p, true);
            if (!other)
                return NULL;
        }
        struct tmpl_node *cond = tmpl_node_new(p, N_COND, line);
        if (!cond)
            return NULL;
        cond->kid[0] = test;
        cond->kid[1] = n;
        cond->kid[2] = other;
        n = tmpl_node_done(p, cond);
        line = p->cur.line;
    }
    return n;
}

struct tmpl_node *tmpl_parse_expr(struct tmpl_parser *p, bool with_cond)
{
    if (!tmpl_parse_enter(p))
        return NULL;
    return tmpl_parse_leave(p, with_cond ? parse_cond(p) : parse_or(p));
}

static struct tmpl_node *parse_not(struct tmpl_parser *p);

static struct tmpl_node *parse_and(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_not(p);
    bool more;
    while (n) {
        if (tmpl_skip_name(p, "and", &more))
            return NULL;
        if (!more)
            break;
        struct tmpl_node *right = parse_not(p);
        n = right ? make2(p, N_AND, 0, line, n, right) : NULL;
        line = p->cur.line;
    }
    return n;
}

static struct tmpl_node *parse_or(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_and(p);
    bool more;
    while (n) {
        if (tmpl_skip_name(p, "or", &more))
            return NULL;
        if (!more)
            break;
        struct tmpl_node *right = parse_and(p);
        n = right ? make2(p, N_OR, 0, line, n, right) : NULL;
        line = p->cur.line;
    }
    return n;
}

/* A comparison operator at the position, consumed; -1: none, -2: error. */
static int comparison(struct tmpl_parser *p)
{
    static const uint8_t ops[][2] = {{TOK_EQ, OP_EQ}, {TOK_NE, OP_NE}, {TOK_GT, OP_GT},
                                     {TOK_GE, OP_GE}, {TOK_LT, OP_LT}, {TOK_LE, OP_LE}};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (p->cur.type == ops[i][0])
            return tmpl_advance(p) ? -2 : ops[i][1];
    if (tmpl_cur_is(p, "in"))
        return tmpl_advance(p) ? -2 : OP_IN;
    if (!tmpl_cur_is(p, "not"))
        return -1;
    const struct tmpl_token *next = tmpl_look(p);
    if (!next)
        return -2;
    if (next->type != TOK_NAME || next->n != 2 || memcmp(next->s, "in", 2) != 0)
        return -1;
    if (tmpl_advance(p)) /* not */
        return -2;
    return tmpl_advance(p) ? -2 : OP_NOTIN;
}

static struct tmpl_node *parse_math1(struct tmpl_parser *p);

static struct tmpl_node *parse_compare(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *first = parse_math1(p), *ops = NULL, **tail = &ops;
    if (!first)
        return NULL;
    for (;;) {
        int op = comparison(p);
        if (op == -2)
            return NULL;
        if (op == -1)
            break;
        struct tmpl_node *value = parse_math1(p);
        struct tmpl_node *operand =
            value ? make2(p, N_OPERAND, op, p->cur.line, value, NULL) : NULL;
        if (!operand)
            return NULL;
        append(&tail, operand);
    }
    return ops ? make2(p, N_COMPARE, 0, line, first, ops) : first;
}

static struct tmpl_node *parse_not(struct tmpl_parser *p)
{
    if (!tmpl_cur_is(p, "not"))
        return parse_compare(p);
    uint32_t line = p->cur.line;
    if (!tmpl_parse_enter(p) || tmpl_advance(p))
        return NULL;
    struct tmpl_node *n = tmpl_parse_leave(p, parse_not(p));
    return n ? make2(p, N_NOT, 0, line, n, NULL) : NULL;
}

static struct tmpl_node *parse_pow(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = tmpl_parse_unary(p, true);
    bool more;
    while (n) {
        if (tmpl_skip_if(p, TOK_POW, &more))
            return NULL;
        if (!more)
            break;
        struct tmpl_node *right = tmpl_parse_unary(p, true);
        n = right ? make2(p, N_BINARY, OP_POW, line, n, right) : NULL;
        line = p->cur.line;
    }
    return n;
}

static int math_op(enum tmpl_tok_type t)
{
    switch (t) {
    case TOK_ADD:
        return OP_ADD;
    case TOK_SUB:
        return OP_SUB;
    case TOK_MUL:
        return OP_MUL;
    case TOK_DIV:
        return OP_DIV;
    case TOK_FLOORDIV:
        return OP_FLOORDIV;
    case TOK_MOD:
        return OP_MOD;
    default:
        return -1;
    }
}

static struct tmpl_node *parse_math2(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_pow(p);
    while (n) {
        int op = math_op(p->cur.type);
        if (op < OP_MUL)
            break;
        if (tmpl_advance(p))
            return NULL;
        struct tmpl_node *right = parse_pow(p);
        n = right ? make2(p, N_BINARY, op, line, n, right) : NULL;
        line = p->cur.line;
    }
    return n;
}

static struct tmpl_node *parse_concat(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_math2(p), *list = NULL, **tail = &list;
    if (!n || p->cur.type != TOK_TILDE)
        return n;
    append(&tail, n);
    while (p->cur.type == TOK_TILDE) {
        if (tmpl_advance(p) || !(n = parse_math2(p)))
            return NULL;
        append(&tail, n);
    }
    return make2(p, N_CONCAT, 0, line, list, NULL);
}

static struct tmpl_node *parse_math1(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *n = parse_concat(p);
    while (n) {
        int op = math_op(p->cur.type);
        if (op != OP_ADD && op != OP_SUB)
            break;
        if (tmpl_advance(p))
            return NULL;
        struct tmpl_node *right = parse_concat(p);
        n = right ? make2(p, N_BINARY, op, line, n, right) : NULL;
        line = p->cur.line;
    }
    return n;
}

/* A value as a node. */
static struct tmpl_node *constant(struct tmpl_parser *p, struct tmpl_val v, uint32_t line)
{
    struct tmpl_node *n = tmpl_node_new(p, N_CONST, line);
    if (n)
        n->val = v;
    return n;
}

static struct tmpl_node *parse_primary_name(struct tmpl_parser *p, bool with_namespace)
{
    uint32_t line = p->cur.line;
    static const char *const names[] = {"true", "True", "false", "False", "none", "None"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (tmpl_cur_is(p, names[i]))
            return tmpl_advance(p) ? NULL
                                   : constant(p, i < 4 ? tmpl_bool(i < 2) : tmpl_none(), line);
    struct tmpl_node *n = tmpl_parse_name(p, CTX_LOAD);
    if (!n || !with_namespace || p->cur.type != TOK_DOT)
        return n;
    if (tmpl_advance(p))
        return NULL;
    n->kind = N_NSREF;
    n->str = p->cur.type == TOK_NAME ? tmpl_const_str(p, p->cur.s, p->cur.n) : NULL;
    if (tmpl_expect(p, TOK_NAME, "a name"))
        return NULL;
    return n;
}

/* Adjacent string literals are one. */
static struct tmpl_node *parse_string(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    const char *s = p->cur.s;
    size_t n = p->cur.n;
    if (tmpl_advance(p))
        return NULL;
    struct buf joined = {0};
    if (p->cur.type == TOK_STRING)
        buf_add(&joined, s, n);
    while (p->cur.type == TOK_STRING) {
        buf_add(&joined, p->cur.s, p->cur.n);
        if (tmpl_advance(p)) {
            buf_fini(&joined);
            return NULL;
        }
    }
    if (joined.data) {
        s = arena_strndup(p->arena, joined.data, joined.len);
        n = joined.len;
    }
    if (joined.failed)
        s = NULL;
    buf_fini(&joined);
    if (!s) {
        err_set(p->e, LLMD_ENOMEM, "out of memory for a chat template");
        return NULL;
    }
    struct tmpl_str *str = tmpl_const_str(p, s, n);
    return str ? constant(p, tmpl_str_val(str), line) : NULL;
}

/* [a, b,] */
static struct tmpl_node *parse_list(struct tmpl_parser *p)
{
    struct tmpl_node *n = tmpl_node_new(p, N_LIST, p->cur.line);
    if (!n || tmpl_advance(p))
        return NULL;
    for (struct tmpl_node **tail = &n->kid[0], *item; p->cur.type != TOK_RBRACKET;) {
        if (n->n_items && tmpl_expect(p, TOK_COMMA, "','"))
            return NULL;
        if (p->cur.type == TOK_RBRACKET)
            break;
        if (!(item = tmpl_parse_expr(p, true)))
            return NULL;
        append(&tail, item);
        n->n_items++;
    }
    return tmpl_expect(p, TOK_RBRACKET, "']'") ? NULL : tmpl_node_done(p, n);
}

/* {a: b,} */
static struct tmpl_node *parse_dict(struct tmpl_parser *p)
{
    struct tmpl_node *n = tmpl_node_new(p, N_DICT, p->cur.line);
    if (!n || tmpl_advance(p))
        return NULL;
    for (struct tmpl_node **tail = &n->kid[0]; p->cur.type != TOK_RBRACE;) {
        if (n->n_items && tmpl_expect(p, TOK_COMMA, "','"))
            return NULL;
        if (p->cur.type == TOK_RBRACE)
            break;
        struct tmpl_node *key = tmpl_parse_expr(p, true);
        if (!key || tmpl_expect(p, TOK_COLON, "':'"))
            return NULL;
        struct tmpl_node *val = tmpl_parse_expr(p, true);
        struct tmpl_node *pair = val ? make2(p, N_PAIR, 0, key->line, key, val) : NULL;
        if (!pair)
            return NULL;
        append(&tail, pair);
        n->n_items++;
    }
    return tmpl_expect(p, TOK_RBRACE, "'}'") ? NULL : tmpl_node_done(p, n);
}

struct tmpl_node *tmpl_parse_primary(struct tmpl_parser *p, bool with_namespace)
{
    struct tmpl_token t = p->cur;
    struct tmpl_node *n;
    char text[64];
    switch (t.type) {
    case TOK_NAME:
        return parse_primary_name(p, with_namespace);
    case TOK_STRING:
        return parse_string(p);
    case TOK_INTEGER:
    case TOK_FLOAT:
        if (tmpl_advance(p))
            return NULL;
        return constant(p, t.type == TOK_FLOAT ? tmpl_float(t.f) : tmpl_int(t.i), t.line);
    case TOK_LPAREN:
        if (tmpl_advance(p))
            return NULL;
        n = tmpl_parse_tuple(p, TUPLE_EXPLICIT, NULL);
        return !n || tmpl_expect(p, TOK_RPAREN, "')'") ? NULL : n;
    case TOK_LBRACKET:
        return parse_list(p);
    case TOK_LBRACE:
        return parse_dict(p);
    default:
        tmpl_syntax(p, t.line, "unexpected %s", tmpl_token_text(&t, text));
        return NULL;
    }
}

struct tmpl_node *tmpl_parse_tuple(struct tmpl_parser *p, unsigned flags, const char *end)
{
    struct tmpl_node *list = NULL, **tail = &list, *item, *n;
    uint32_t line = p->cur.line, n_items = 0;
    bool is_tuple = false;
    char text[64];
    for (;;) {
        if (n_items && tmpl_expect(p, TOK_COMMA, "','"))
            return NULL;
        if (p->cur.type == TOK_VAR_END || p->cur.type == TOK_BLOCK_END ||
            p->cur.type == TOK_RPAREN || (end && tmpl_cur_is(p, end)))
            break;
        item = flags & TUPLE_SIMPLE ? tmpl_parse_primary(p, flags & TUPLE_NAMESPACE)
                                    : tmpl_parse_expr(p, !(flags & TUPLE_NO_COND));
        if (!item)
            return NULL;
        append(&tail, item);
        n_items++;
        if (p->cur.type != TOK_COMMA)
            break;
        is_tuple = true;
        line = p->cur.line;
    }
    if (!is_tuple && n_items)
        return list;
    if (!is_tuple && !(flags & TUPLE_EXPLICIT)) {
        tmpl_syntax(p, p->cur.line, "expected an expression, got %s",
                    tmpl_token_text(&p->cur, text));
        return NULL;
    }
    n = make2(p, N_TUPLE, 0, line, list, NULL);
    if (n)
        n->n_items = n_items;
    return n;
}

/* One index of a subscript: an expression or start:stop:step. */
static struct tmpl_node *parse_subscribed(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    struct tmpl_node *parts[3] = {NULL, NULL, NULL};
    bool colon;
    if (p->cur.type != TOK_COLON) {
        parts[0] = tmpl_parse_expr(p, true);
        if (!parts[0] || p->cur.type != TOK_COLON)
            return parts[0];
    }
    if (tmpl_advance(p))
        return NULL;
    for (int i = 1; i < 3; i++) {
        if (p->cur.type != TOK_COLON && p->cur.type != TOK_RBRACKET && p->cur.type != TOK_COMMA &&
            !(parts[i] = tmpl_parse_expr(p, true)))
            return NULL;
        if (i == 1) {
            if (tmpl_skip_if(p, TOK_COLON, &colon))
                return NULL;
            if (!colon)
                break;
        }
    }
    struct tmpl_node *n = tmpl_node_new(p, N_SLICE, line);
    if (!n)
        return NULL;
    memcpy(n->kid, parts, sizeof(parts));
    return tmpl_node_done(p, n);
}

/* .name, .0, [index], [a, b] */
struct tmpl_node *tmpl_parse_subscript(struct tmpl_parser *p, struct tmpl_node *object)
{
    struct tmpl_token t = p->cur;
    if (tmpl_advance(p))
        return NULL;
    if (t.type == TOK_DOT) {
        struct tmpl_token attr = p->cur;
        if (attr.type == TOK_INTEGER) {
            if (tmpl_advance(p))
                return NULL;
            struct tmpl_node *index = constant(p, tmpl_int(attr.i), attr.line);
            return index ? make2(p, N_ITEM, 0, t.line, object, index) : NULL;
        }
        if (tmpl_expect(p, TOK_NAME, "a name or number"))
            return NULL;
        struct tmpl_node *n = make2(p, N_ATTR, 0, t.line, object, NULL);
        return n && (n->str = tmpl_const_str(p, attr.s, attr.n)) ? n : NULL;
    }
    struct tmpl_node *list = NULL, **tail = &list, *arg;
    uint32_t n_items = 0;
    bool has_slice = false;
    while (p->cur.type != TOK_RBRACKET) {
        if (n_items && tmpl_expect(p, TOK_COMMA, "','"))
            return NULL;
        if (!(arg = parse_subscribed(p)))
            return NULL;
        has_slice |= arg->kind == N_SLICE;
        append(&tail, arg);
        n_items++;
    }
    if (tmpl_advance(p))
        return NULL;
    if (n_items == 1)
        return make2(p, N_ITEM, 0, t.line, object, list);
    if (has_slice) {
        tmpl_syntax(p, t.line, "a slice cannot be part of a tuple");
        return NULL;
    }
    struct tmpl_node *tuple = make2(p, N_TUPLE, 0, t.line, list, NULL);
    if (!tuple)
        return NULL;
    tuple->n_items = n_items;
    return make2(p, N_ITEM, 0, t.line, object, tuple);
}
