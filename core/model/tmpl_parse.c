/* tmpl_parse.c - parser of statements; the grammar is Jinja's, rule for rule, with the tags of
 * the loop control extension and transformers' {% generation %}. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/model/tmpl_ast_int.h"
#include "core/model/tmpl_text_int.h"

enum { NAME_BUCKETS = 1024 };

int tmpl_syntax_at(struct tmpl_parser *p, uint32_t line, const char *fmt, ...)
{
    char msg[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    return err_set(p->e, LLMD_EPARSE, "chat template line %u: %s", line, msg);
}

int tmpl_advance(struct tmpl_parser *p)
{
    if (p->has_ahead) {
        p->cur = p->ahead;
        p->has_ahead = false;
        return 0;
    }
    return tmpl_lex_next(&p->lex, &p->cur);
}

const struct tmpl_token *tmpl_look(struct tmpl_parser *p)
{
    if (!p->has_ahead) {
        if (tmpl_lex_next(&p->lex, &p->ahead))
            return NULL;
        p->has_ahead = true;
    }
    return &p->ahead;
}

bool tmpl_cur_is(const struct tmpl_parser *p, const char *name)
{
    return p->cur.type == TOK_NAME && p->cur.n == strlen(name) &&
           memcmp(p->cur.s, name, p->cur.n) == 0;
}

int tmpl_skip_if(struct tmpl_parser *p, enum tmpl_tok_type type, bool *out)
{
    *out = p->cur.type == type;
    return *out ? tmpl_advance(p) : 0;
}

int tmpl_skip_name(struct tmpl_parser *p, const char *name, bool *out)
{
    *out = tmpl_cur_is(p, name);
    return *out ? tmpl_advance(p) : 0;
}

int tmpl_expect(struct tmpl_parser *p, enum tmpl_tok_type type, const char *what)
{
    char text[64];
    if (p->cur.type != type)
        return tmpl_syntax(p, p->cur.line, "expected %s, got %s", what,
                           tmpl_token_text(&p->cur, text));
    return tmpl_advance(p);
}

static void *no_memory(struct tmpl_parser *p)
{
    if (p->arena->used_bytes > TMPL_MAX_TREE_BYTES / 2)
        err_set(p->e, LLMD_ELIMIT, "chat template is too complex");
    err_set(p->e, LLMD_ENOMEM, "out of memory for a chat template");
    return NULL;
}

struct tmpl_node *tmpl_node_new(struct tmpl_parser *p, enum tmpl_kind kind, uint32_t line)
{
    struct tmpl_node *n = arena_alloc(p->arena, sizeof(*n));
    if (!n)
        return no_memory(p);
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

struct tmpl_node *tmpl_node_done(struct tmpl_parser *p, struct tmpl_node *n)
{
    for (int i = 0; i < TMPL_MAX_KIDS; i++)
        for (const struct tmpl_node *k = n->kid[i]; k; k = k->next)
            if (k->depth >= n->depth)
                n->depth = k->depth + 1;
    if (n->depth <= TMPL_MAX_EXPR_DEPTH)
        return n;
    err_set(p->e, LLMD_ELIMIT, "chat template line %u: expression is nested too deeply", n->line);
    return NULL;
}

struct tmpl_name *tmpl_intern(struct tmpl_parser *p, const char *s, size_t n)
{
    uint64_t hash = tmpl_hash(s, n);
    if (!p->names && !(p->names = arena_array(p->arena, NAME_BUCKETS, sizeof(void *))))
        return no_memory(p);
    struct tmpl_name **bucket = &p->names[hash % NAME_BUCKETS];
    for (struct tmpl_name *name = *bucket; name; name = name->next)
        if (name->hash == hash && name->n == n && memcmp(name->s, s, n) == 0)
            return name;
    struct tmpl_name *name = arena_alloc(p->arena, sizeof(*name));
    char *copy = arena_strndup(p->arena, s, n);
    if (!name || !copy)
        return no_memory(p);
    *name =
        (struct tmpl_name){.s = copy, .n = n, .hash = hash, .id = p->n_names++, .next = *bucket};
    *bucket = name;
    return name;
}

struct tmpl_str *tmpl_const_str(struct tmpl_parser *p, const char *s, size_t n)
{
    struct tmpl_str *str = arena_alloc(p->arena, sizeof(*str));
    if (!str)
        return no_memory(p);
    *str = (struct tmpl_str){.s = s, .n = n, .n_chars = tmpl_count_chars(s, n)};
    return str;
}

static int parse_body(struct tmpl_parser *p, const char *const *ends, struct tmpl_node **out);

/* The statements between a tag and its end tag, whose name stays current. */
static int parse_statements(struct tmpl_parser *p, const char *const *ends, struct tmpl_node **out)
{
    bool colon;
    int rc = tmpl_skip_if(p, TOK_COLON, &colon);
    if (rc == 0)
        rc = tmpl_expect(p, TOK_BLOCK_END, "'%}'");
    if (rc == 0 && ++p->block_depth > TMPL_MAX_BLOCK_DEPTH)
        rc = err_set(p->e, LLMD_ELIMIT, "chat template line %u: blocks are nested too deeply",
                     p->cur.line);
    if (rc == 0)
        rc = parse_body(p, ends, out);
    p->block_depth--;
    return rc;
}

/* As parse_statements with one end tag, which is consumed. */
static int parse_until(struct tmpl_parser *p, const char *end, struct tmpl_node **out)
{
    const char *const ends[] = {end, NULL};
    int rc = parse_statements(p, ends, out);
    return rc ? rc : tmpl_advance(p);
}

static int parse_for(struct tmpl_parser *p, struct tmpl_node *n)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    if (!(n->kid[0] = tmpl_parse_target(p, false, "in")))
        return tmpl_parse_failed(p);
    if (!tmpl_cur_is(p, "in")) {
        char text[64];
        return tmpl_syntax(p, p->cur.line, "expected 'in', got %s", tmpl_token_text(&p->cur, text));
    }
    bool has_test;
    if (tmpl_advance(p) || !(n->kid[1] = tmpl_parse_tuple(p, TUPLE_NO_COND, "recursive")) ||
        tmpl_skip_name(p, "if", &has_test) ||
        (has_test && !(n->kid[4] = tmpl_parse_expr(p, true))) ||
        tmpl_skip_name(p, "recursive", &n->recursive))
        return tmpl_parse_failed(p);
    uint32_t loops = p->loop_depth;
    p->loop_depth = loops + 1;
    int rc = parse_statements(p, ends, &n->kid[2]);
    /* The else part of a recursive loop is in the loop's function, but not in a loop. */
    p->loop_depth = n->recursive ? 0 : loops;
    if (rc == 0 && tmpl_cur_is(p, "endfor"))
        rc = tmpl_advance(p);
    else if (rc == 0 && (rc = tmpl_advance(p)) == 0)
        rc = parse_until(p, "endfor", &n->kid[3]);
    p->loop_depth = loops;
    return rc;
}

static int parse_if(struct tmpl_parser *p, struct tmpl_node *n)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    struct tmpl_node *first = n, **elifs = &n->kid[2];
    for (;;) {
        if (!(n->kid[0] = tmpl_parse_tuple(p, TUPLE_NO_COND, NULL)))
            return tmpl_parse_failed(p);
        int rc = parse_statements(p, ends, &n->kid[1]);
        if (rc)
            return rc;
        bool is_elif = tmpl_cur_is(p, "elif"), is_else = tmpl_cur_is(p, "else");
        if ((rc = tmpl_advance(p)) || (!is_elif && !is_else))
            return rc;
        if (is_else)
            return parse_until(p, "endif", &first->kid[3]);
        n = tmpl_node_new(p, N_IF, p->cur.line);
        if (!n)
            return tmpl_parse_failed(p);
        *elifs = n;
        elifs = &n->next;
    }
}

static int parse_set(struct tmpl_parser *p, struct tmpl_node *n)
{
    bool is_assign;
    if (!(n->kid[0] = tmpl_parse_target(p, true, NULL)) || tmpl_skip_if(p, TOK_ASSIGN, &is_assign))
        return tmpl_parse_failed(p);
    if (is_assign)
        return (n->kid[1] = tmpl_parse_tuple(p, 0, NULL)) ? 0 : tmpl_parse_failed(p);
    n->kind = N_SETBLOCK;
    if (p->cur.type == TOK_PIPE && !(n->kid[1] = tmpl_parse_filter(p, NULL, false)))
        return tmpl_parse_failed(p);
    return parse_until(p, "endset", &n->kid[2]);
}

static void set_param(struct tmpl_node *n)
{
    n->ctx = CTX_PARAM;
    if (n->kind == N_TUPLE)
        for (struct tmpl_node *k = n->kid[0]; k; k = k->next)
            set_param(k);
}

static int parse_with(struct tmpl_parser *p, struct tmpl_node *n)
{
    struct tmpl_node **targets = &n->kid[0], **values = &n->kid[1];
    while (p->cur.type != TOK_BLOCK_END) {
        if ((n->kid[0] && tmpl_expect(p, TOK_COMMA, "','")) ||
            !(*targets = tmpl_parse_target(p, false, NULL)))
            return tmpl_parse_failed(p);
        set_param(*targets);
        if (tmpl_expect(p, TOK_ASSIGN, "'='") || !(*values = tmpl_parse_expr(p, true)))
            return tmpl_parse_failed(p);
        targets = &(*targets)->next;
        values = &(*values)->next;
    }
    return parse_until(p, "endwith", &n->kid[2]);
}

static bool assignable_name(const struct tmpl_name *name)
{
    static const char *const fixed[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (strcmp(name->s, fixed[i]) == 0)
            return false;
    return true;
}

/* (a, b=default) */
static int parse_signature(struct tmpl_parser *p, struct tmpl_node **params,
                           struct tmpl_node **defaults)
{
    struct tmpl_node *first = NULL, **tail = &first;
    bool has_default = false, is_default;
    if (tmpl_expect(p, TOK_LPAREN, "'('"))
        return tmpl_parse_failed(p);
    while (p->cur.type != TOK_RPAREN) {
        if (first && tmpl_expect(p, TOK_COMMA, "','"))
            return tmpl_parse_failed(p);
        struct tmpl_node *param = tmpl_parse_name(p, CTX_PARAM);
        if (!param)
            return tmpl_parse_failed(p);
        if (!assignable_name(param->name))
            return tmpl_syntax(p, param->line, "can't assign to '%s'", param->name->s);
        uint32_t n_params = 0;
        for (const struct tmpl_node *k = first; k; k = k->next, n_params++)
            if (k->name == param->name)
                return tmpl_syntax(p, param->line, "parameter '%s' is repeated", param->name->s);
        if (n_params == TMPL_MAX_PARAMS)
            return err_set(p->e, LLMD_ELIMIT, "chat template line %u: over %d parameters",
                           param->line, TMPL_MAX_PARAMS);
        if (tmpl_skip_if(p, TOK_ASSIGN, &is_default))
            return tmpl_parse_failed(p);
        if (is_default) {
            if (!(*defaults = tmpl_parse_expr(p, true)))
                return tmpl_parse_failed(p);
            defaults = &(*defaults)->next;
            has_default = true;
        } else if (has_default)
            return tmpl_syntax(p, param->line, "non-default argument follows default argument");
        *tail = param;
        tail = &param->next;
    }
    *params = first;
    return tmpl_advance(p);
}

/* A body that becomes a function: break and continue do not reach out of it. */
static int parse_function_body(struct tmpl_parser *p, const char *end, struct tmpl_node **out)
{
    uint32_t loops = p->loop_depth;
    p->loop_depth = 0;
    int rc = parse_until(p, end, out);
    p->loop_depth = loops;
    return rc;
}

static int parse_macro(struct tmpl_parser *p, struct tmpl_node *n)
{
    struct tmpl_node *name = tmpl_parse_name(p, CTX_STORE);
    if (!name)
        return tmpl_parse_failed(p);
    if (!assignable_name(name->name))
        return tmpl_syntax(p, name->line, "can't assign to '%s'", name->name->s);
    n->name = name->name;
    if (parse_signature(p, &n->kid[0], &n->kid[1]))
        return tmpl_parse_failed(p);
    return parse_function_body(p, "endmacro", &n->kid[2]);
}

static int parse_call_block(struct tmpl_parser *p, struct tmpl_node *n)
{
    if (p->cur.type == TOK_LPAREN && parse_signature(p, &n->kid[1], &n->kid[2]))
        return tmpl_parse_failed(p);
    if (!(n->kid[0] = tmpl_parse_expr(p, true)))
        return tmpl_parse_failed(p);
    if (n->kid[0]->kind != N_CALL)
        return tmpl_syntax(p, n->line, "expected a call");
    return parse_function_body(p, "endcall", &n->kid[3]);
}

static int parse_filter_block(struct tmpl_parser *p, struct tmpl_node *n)
{
    if (!(n->kid[1] = tmpl_parse_filter(p, NULL, true)))
        return tmpl_parse_failed(p);
    return parse_until(p, "endfilter", &n->kid[0]);
}

static int parse_print(struct tmpl_parser *p, struct tmpl_node *n)
{
    for (struct tmpl_node **tail = &n->kid[0]; p->cur.type != TOK_BLOCK_END;) {
        if ((n->kid[0] && tmpl_expect(p, TOK_COMMA, "','")) || !(*tail = tmpl_parse_expr(p, true)))
            return tmpl_parse_failed(p);
        tail = &(*tail)->next;
    }
    return 0;
}

static int parse_generation(struct tmpl_parser *p, struct tmpl_node *n)
{
    return parse_function_body(p, "endgeneration", &n->kid[3]);
}

static int parse_control(struct tmpl_parser *p, struct tmpl_node *n)
{
    if (p->loop_depth)
        return 0;
    return tmpl_syntax(p, n->line, "'%s' outside a loop",
                       n->kind == N_BREAK ? "break" : "continue");
}

static const struct {
    const char *tag;
    uint8_t kind;
    int (*parse)(struct tmpl_parser *p, struct tmpl_node *n); /* NULL: refused */
} tags[] = {
    {"for", N_FOR, parse_for},
    {"if", N_IF, parse_if},
    {"set", N_SET, parse_set},
    {"with", N_WITH, parse_with},
    {"macro", N_MACRO, parse_macro},
    {"call", N_CALLBLOCK, parse_call_block},
    {"filter", N_FILTERBLOCK, parse_filter_block},
    {"print", N_OUTPUT, parse_print},
    {"generation", N_GENERATION, parse_generation},
    {"break", N_BREAK, parse_control},
    {"continue", N_CONTINUE, parse_control},
    {"block", 0, NULL},
    {"extends", 0, NULL},
    {"include", 0, NULL},
    {"import", 0, NULL},
    {"from", 0, NULL},
    {"autoescape", 0, NULL},
};

/* The statement whose tag is current, up to but without its final "%}". */
static struct tmpl_node *parse_statement(struct tmpl_parser *p)
{
    uint32_t line = p->cur.line;
    char text[64];
    if (p->cur.type != TOK_NAME) {
        tmpl_syntax(p, line, "expected the name of a tag, got %s", tmpl_token_text(&p->cur, text));
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (!tmpl_cur_is(p, tags[i].tag))
            continue;
        if (!tags[i].parse) {
            err_set(p->e, LLMD_EUNSUPPORTED, "chat template line %u: the tag '%s' is not supported",
                    line, tags[i].tag);
            return NULL;
        }
        struct tmpl_node *n = tmpl_node_new(p, tags[i].kind, line);
        if (!n || tmpl_advance(p) || tags[i].parse(p, n))
            return NULL;
        return n;
    }
    tmpl_syntax(p, line, "unknown tag %s", tmpl_token_text(&p->cur, text));
    return NULL;
}

/* Text and {{ expressions }} up to the next tag, as one output statement. */
static struct tmpl_node *parse_output(struct tmpl_parser *p)
{
    struct tmpl_node *out = tmpl_node_new(p, N_OUTPUT, p->cur.line);
    if (!out)
        return NULL;
    for (struct tmpl_node **tail = &out->kid[0];; tail = &(*tail)->next) {
        if (p->cur.type == TOK_DATA) {
            struct tmpl_str *s = tmpl_const_str(p, p->cur.s, p->cur.n);
            if (!s || !(*tail = tmpl_node_new(p, N_DATA, p->cur.line)))
                return NULL;
            (*tail)->val = tmpl_str_val(s);
            if (tmpl_advance(p))
                return NULL;
        } else if (p->cur.type == TOK_VAR_BEGIN) {
            if (tmpl_advance(p) || !(*tail = tmpl_parse_tuple(p, 0, NULL)) ||
                tmpl_expect(p, TOK_VAR_END, "'}}'"))
                return NULL;
        } else
            return out;
    }
}

static bool at_end_tag(const struct tmpl_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (tmpl_cur_is(p, *ends))
            return true;
    return false;
}

static int parse_body(struct tmpl_parser *p, const char *const *ends, struct tmpl_node **out)
{
    for (struct tmpl_node **tail = out; p->cur.type != TOK_EOF; tail = &(*tail)->next) {
        if (p->cur.type != TOK_BLOCK_BEGIN) {
            if (!(*tail = parse_output(p)))
                return tmpl_parse_failed(p);
            continue;
        }
        if (tmpl_advance(p))
            return tmpl_parse_failed(p);
        if (at_end_tag(p, ends))
            return 0;
        if (!(*tail = parse_statement(p)) || tmpl_expect(p, TOK_BLOCK_END, "'%}'"))
            return tmpl_parse_failed(p);
    }
    if (!ends)
        return 0;
    return tmpl_syntax(p, p->cur.line, "unexpected end of the template, expected '{%% %s %%}'",
                       ends[0]);
}

int tmpl_parse(struct tmpl_parser *p, struct tmpl_node **out_body)
{
    int rc = tmpl_advance(p);
    return rc ? rc : parse_body(p, NULL, out_body);
}
