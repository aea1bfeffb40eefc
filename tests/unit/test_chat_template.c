/* Chat templates: the interface, messages, limits and hostile templates. What the language means is
 * pinned by test_chat_template_golden.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/model/chat_template.h"
#include "core/util/clock.h"

static const char chat[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi \\u00e9\"}], "
                           "\"n\": 3, \"s\": \"abc\", \"zero\": 0}";

/* Renders with the context above; the text is appended to out. */
static int render(const char *source, const struct chat_template_limits *limits, struct buf *out,
                  struct err *e)
{
    struct chat_template *t = NULL;
    int rc = chat_template_parse(source, strlen(source), &t, e);
    if (rc)
        return rc;
    json_t *context = json_loads(chat, 0, NULL);
    rc = chat_template_render(t, context, limits, out, e);
    json_decref(context);
    chat_template_free(t);
    return rc;
}

static void check_text(const char *source, const char *want)
{
    struct buf out = {0};
    struct err e = {0};
    if (render(source, NULL, &out, &e))
        fail_msg("%s: %s", source, e.msg);
    assert_string_equal(buf_str(&out), want);
    buf_fini(&out);
}

static void renders(void **state)
{
    (void)state;
    check_text("", "");
    check_text("plain {text} }} %} #}\n", "plain {text} }} %} #}");
    check_text("{% for m in messages %}<|{{ m.role }}|>{{ m['content'] }}{% endfor %}",
               "<|user|>Hi \xc3\xa9");
    check_text("{{ [1, 2.0, 1e-5, 'it''s', \"it's\", none, true, {'k': (1,)}] }}",
               "[1, 2.0, 1e-05, 'its', \"it's\", None, True, {'k': (1,)}]");
    check_text("  {% if n > 2 %}\n  yes\n  {% endif %}\n", "  yes\n");
    check_text("{% set ns = namespace(t=0) %}{% for i in range(n) %}{% set ns.t = ns.t + i %}"
               "{% endfor %}{{ ns.t }}",
               "3");
    check_text("{% macro m(a, b='x') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}",
               "1x32");
    check_text("{{ {'b': [1, {}], 'a': 'é\"'} | tojson }}", "{\"b\": [1, {}], \"a\": \"é\\\"\"}");
}

/* The output is appended, and as it was after a failure, also of a rendering that had begun. */
static void output_is_appended(void **state)
{
    (void)state;
    struct buf out = {0};
    struct err e = {0};
    buf_addstr(&out, "before ");
    assert_int_equal(render("{{ s }}", NULL, &out, &e), 0);
    assert_string_equal(out.data, "before abc");
    assert_int_equal(render("some text {{ 1 / zero }}", NULL, &out, &e), -LLMD_EINVAL);
    assert_string_equal(out.data, "before abc");
    assert_int_equal(out.len, 10);
    err_clear(&e);
    assert_int_equal(render("!", NULL, &out, NULL), 0);
    assert_string_equal(out.data, "before abc!");
    buf_fini(&out);
}

static void context_must_be_an_object(void **state)
{
    (void)state;
    struct chat_template *t = NULL;
    struct buf out = {0};
    struct err e = {0};
    assert_int_equal(chat_template_parse("x", 1, &t, &e), 0);
    json_t *list = json_array();
    assert_int_equal(chat_template_render(t, list, NULL, &out, &e), -LLMD_EINVAL);
    assert_int_equal(chat_template_render(t, NULL, NULL, &out, NULL), -LLMD_EINVAL);
    json_decref(list);
    chat_template_free(t);
    chat_template_free(NULL);
    buf_fini(&out);
}

struct refusal {
    const char *source;
    int code;
    const char *message; /* a part of it */
};

static void check_refusal(const struct refusal *r, const struct chat_template_limits *limits)
{
    struct buf out = {0};
    struct err e = {0};
    int rc = render(r->source, limits, &out, &e);
    if (rc != -r->code || !strstr(e.msg, r->message))
        fail_msg("%.200s\nwant %d: %s\ngot  %d: %s", r->source, -r->code, r->message, rc, e.msg);
    assert_null(strpbrk(e.msg, "\n\r"));
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    assert_int_equal(render(r->source, limits, &out, NULL), rc);
    buf_fini(&out);
}

/* Messages name the line and the fault; each code means what the header says. */
static void messages(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"\n\n{{ raise_exception('only\\nuser roles') }}", LLMD_EINVAL,
         "line 3: only\\nuser roles"},
        {"{{ nope.x }}", LLMD_EINVAL, "line 1: 'nope' is undefined"},
        {"{{ messages[0].x.y }}", LLMD_EINVAL, "'dict object' has no attribute 'x'"},
        {"{{ messages[5].x }}", LLMD_EINVAL, "'list object' has no element 5"},
        {"{{ s.__class__.x }}", LLMD_EINVAL, "unsafe"},
        {"{{ messages.append(1) }}", LLMD_EINVAL, "'append' of 'list' object is unsafe"},
        {"{{ 1 + 'a' }}", LLMD_EINVAL, "unsupported operand type(s) for +: 'int' and 'str'"},
        {"{{ 'a' < 1 }}", LLMD_EINVAL, "'<' not supported between instances of 'str' and 'int'"},
        {"a\n{% for x in 5 %}\n{% endfor %}", LLMD_EINVAL, "line 2: 'int' object is not iterable"},
        {"{{ 1 / 0 }}", LLMD_EINVAL, "division by zero"},
        {"{{ range(1000000) }}", LLMD_EINVAL, "range() of more than 100000 items"},
        {"{{ s(1) }}", LLMD_EINVAL, "'str' object is not callable"},
        {"{{ s.upper(1) }}", LLMD_EINVAL, "takes no arguments"},
        {"{{ s|join(x=1) }}", LLMD_EINVAL, "unexpected keyword argument 'x'"},
        {"{% set a.b = 1 %}", LLMD_EINVAL, "non-namespace"},
        {"{% set a = namespace() %}{% set a._b = 1 %}", LLMD_EINVAL, "'_b'"},
        {"{{ 1", LLMD_EPARSE, "expected '}}', got the end of the template"},
        {"a\nb {% if %}", LLMD_EPARSE, "line 2: expected an expression, got '%}'"},
        {"{% if 1 %}a", LLMD_EPARSE, "expected '{% endif %}'"},
        {"{% nope %}", LLMD_EPARSE, "unknown tag 'nope'"},
        {"{{ a ? b }}", LLMD_EPARSE, "unexpected character '?'"},
        {"{{ (1] }}", LLMD_EPARSE, "unexpected ']'"},
        {"{{ 'a }}", LLMD_EPARSE, "unexpected character '''"},
        {"{{ '\\xg' }}", LLMD_EPARSE, "truncated escape sequence"},
        {"{# a", LLMD_EPARSE, "missing end of comment"},
        {"{% raw %} a", LLMD_EPARSE, "missing end of raw block"},
        {"{% break %}", LLMD_EPARSE, "'break' outside a loop"},
        {"{% set 1 = 2 %}", LLMD_EPARSE, "can only assign to names"},
        {"{% macro m(a, a) %}{% endmacro %}", LLMD_EPARSE, "'a' is repeated"},
        {"{{ f(x=1, x=2) }}", LLMD_EPARSE, "'x' is repeated"},
        {"{% for x in s %}{% set loop = 1 %}{% endfor %}", LLMD_EPARSE, "'loop'"},
        {"\xff", LLMD_EPARSE, "not valid UTF-8"},
        {"{{ s|nope }}", LLMD_EUNSUPPORTED, "there is no filter 'nope'"},
        {"{{ s is nope }}", LLMD_EUNSUPPORTED, "there is no test 'nope'"},
        {"{{ s|pprint }}", LLMD_EUNSUPPORTED, "no support for the filter 'pprint'"},
        {"{% if n %}{{ s|nope }}{% endif %}", LLMD_EUNSUPPORTED, "there is no filter 'nope'"},
        {"{{ [s]|map('nope')|list }}", LLMD_EUNSUPPORTED, "there is no filter 'nope'"},
        {"{{ lipsum() }}", LLMD_EUNSUPPORTED, "the function 'lipsum'"},
        {"{{ s.encode() }}", LLMD_EUNSUPPORTED, "the method 'encode' of str"},
        {"{% include 'x' %}", LLMD_EUNSUPPORTED, "the tag 'include'"},
        {"{% block x %}{% endblock %}", LLMD_EUNSUPPORTED, "the tag 'block'"},
        {"{{ self }}", LLMD_EUNSUPPORTED, "'self'"},
        {"{{ 2 ** 64 }}", LLMD_EUNSUPPORTED, "does not fit 64 bits"},
        {"{{ 99999999999999999999 }}", LLMD_EUNSUPPORTED, "does not fit 64 bits"},
        {"{{ '\\ud800' }}", LLMD_EUNSUPPORTED, "surrogate U+D800"},
        {"{{ [1]|map('abs') }}", LLMD_EUNSUPPORTED, "memory addresses; make it a list first"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_refusal(&cases[i], NULL);
    check_text("{% if zero %}{{ s|nope }}{{ s is nope }}{% endif %}ok", "ok");
}

/* Templates that would run or grow without end stop at a limit, soon and in little memory. */
static void hostile_renderings(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"{{ 'a' * 1000000000000 }}", LLMD_ELIMIT, "memory"},
        {"{{ 'abc' * 9000000000000000000 }}", LLMD_ELIMIT, "repeated"},
        {"{{ ([0] * 1000000000000)|length }}", LLMD_ELIMIT, "memory"},
        {"{{ '%1000000000d' % 1 }}", LLMD_ELIMIT, "too long"},
        {"{{ '%.1000000000f' % 1 }}", LLMD_ELIMIT, "precision"},
        {"{{ '{:1000000000}'.format(s) }}", LLMD_ELIMIT, "too long"},
        {"{{ '{:.1000000000f}'.format(1.5) }}", LLMD_ELIMIT, "precision"},
        {"{{ '{:01000000000}'.format(1) }}", LLMD_ELIMIT, "width"},
        {"{{ s.center(1000000000000) }}", LLMD_ELIMIT, "memory"},
        {"{{ s.zfill(1000000000000) }}", LLMD_ELIMIT, "memory"},
        {"{{ s|indent(1000000000000, true) }}", LLMD_ELIMIT, "memory"},
        {"{{ [1]|tojson(indent=1000000000000) }}", LLMD_ELIMIT, "memory"},
        {"{{ '\\t'.expandtabs(1000000000000) }}", LLMD_ELIMIT, "memory"},
        {"{{ ('x' * 100000).replace('x', 'y' * 100000) }}", LLMD_ELIMIT, "memory"},
        {"{{ ('y' * 100000).join('x' * 100000) }}", LLMD_ELIMIT, "memory"},
        {"{{ [1]|batch(1000000000000, 0)|list }}", LLMD_ELIMIT, ""},
        {"{{ [1]|slice(1000000000000)|list }}", LLMD_ELIMIT, ""},
        {"{% set n = namespace(s='x') %}{% for i in range(64) %}{% set n.s = n.s ~ n.s %}"
         "{% endfor %}",
         LLMD_ELIMIT, "memory"},
        {"{% set n = namespace(l=[1]) %}{% for i in range(64) %}{% set n.l = n.l + n.l %}"
         "{% endfor %}",
         LLMD_ELIMIT, "memory"},
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
         LLMD_ELIMIT, "steps"},
        {"{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", LLMD_ELIMIT, ""},
        {"{% set x = 'x' * 1000000 %}{% for a in range(100000) %}{{ x.count('y') }}{% endfor %}",
         LLMD_ELIMIT, "steps"},
        {"{% set x = 'x' * 1000000 %}{% for a in range(100000) %}{{ 'y' in x }}{% endfor %}",
         LLMD_ELIMIT, "steps"},
        {"{{ ('ab' * 1000000).rfind('b' + 'ab' * 400000 + 'b') }}", LLMD_ELIMIT, "steps"},
        {"{{ ('a' * 1000000).strip('bcdefgh' * 100000 + 'a') }}", LLMD_ELIMIT, "steps"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", LLMD_ELIMIT, "nested deeper"},
        {"{% macro m() %}{{ caller() }}{% endmacro %}{% macro r() %}{% call m() %}{{ r() }}"
         "{% endcall %}{% endmacro %}{{ r() }}",
         LLMD_ELIMIT, "nested deeper"},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", LLMD_ELIMIT, "nested deeper"},
        {"{% set n = namespace(l=[]) %}{% for i in range(50000) %}{% set n.l = [n.l] %}{% endfor %}"
         "{{ n.l }}",
         LLMD_ELIMIT, "nested deeper"},
        {"{% set n = namespace(l=[]) %}{% for i in range(50000) %}{% set n.l = [n.l] %}{% endfor %}"
         "{{ n.l|tojson }}",
         LLMD_ELIMIT, "nested deeper"},
        {"{% set n = namespace(l=[], m=[]) %}{% for i in range(50000) %}{% set n.l = [n.l] %}"
         "{% set n.m = [n.m] %}{% endfor %}{{ n.l == n.m }}",
         LLMD_ELIMIT, "nested deeper"},
        {"{% set n = namespace(l=()) %}{% for i in range(50000) %}{% set n.l = (n.l,) %}"
         "{% endfor %}{{ {n.l: 1} }}",
         LLMD_ELIMIT, "nested deeper"},
        {"{% set n = namespace(l=[1]) %}{% for i in range(50000) %}{% set n.l = n.l|map('abs') %}"
         "{% endfor %}{{ n.l|list }}",
         LLMD_ELIMIT, "nested deeper"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_refusal(&cases[i], NULL);
}

/* Many times the same piece of source. */
static char *many(const char *before, const char *piece, size_t n, const char *behind)
{
    struct buf b = {0};
    buf_addstr(&b, before);
    for (size_t i = 0; i < n; i++)
        buf_addstr(&b, piece);
    buf_addstr(&b, behind);
    return buf_steal(&b, NULL);
}

static void hostile_sources(void **state)
{
    (void)state;
    static const struct {
        const char *before, *piece, *behind;
        size_t n;
        int code;
    } cases[] = {
        {"{{ ", "(", "", 100000, LLMD_ELIMIT},
        {"{{ ", "[", "", 100000, LLMD_ELIMIT},
        {"{{ ", "{1:", "", 100000, LLMD_ELIMIT},
        {"{{ ", "f(", "", 100000, LLMD_ELIMIT},
        {"{{ ", "not ", "1 }}", 100000, LLMD_ELIMIT},
        {"{{ ", "- ", "1 }}", 100000, LLMD_ELIMIT},
        {"{{ 1", " + 1", " }}", 100000, LLMD_ELIMIT},
        {"{{ 1", " if 1 else 1", " }}", 50000, LLMD_ELIMIT},
        {"{{ a", ".a", " }}", 100000, LLMD_ELIMIT},
        {"{{ a", "|abs", " }}", 100000, LLMD_ELIMIT},
        {"{{ a", "()", " }}", 100000, LLMD_ELIMIT},
        {"", "{% if 1 %}", "", 50000, LLMD_ELIMIT},
        {"", "{% for x in y %}", "", 50000, LLMD_ELIMIT},
        {"", "{% macro m() %}", "", 50000, LLMD_ELIMIT},
        {"", "x", "", (1 << 20) + 1, LLMD_ELIMIT},
        {"{% set x = [", "1,", "] %}", 100000, 0},
        {"{{ f(", "a=1,", ") }}", 300, LLMD_EPARSE},
        {"{{ 1", " ~ 1", " }}", 100000, 0},
        {"{{ 1", " == 1", " }}", 100000, 0},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", 50000, 0},
        {"", "{{ 1 }}", "", 100000, 0},
        {"", "{{ a }}{% set a = 1 %}", "", 30000, 0},
        {"{{ '", "\\\\", "' }}", 100000, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *source = many(cases[i].before, cases[i].piece, cases[i].n, cases[i].behind);
        struct buf out = {0};
        struct err e = {0};
        int rc = render(source, NULL, &out, &e);
        if (rc != -cases[i].code)
            fail_msg("%s%s...: %d %s", cases[i].before, cases[i].piece, rc, e.msg);
        buf_fini(&out);
        free(source);
    }
}

static void limits_are_kept(void **state)
{
    (void)state;
    struct buf out = {0};
    struct err e = {0};
    struct chat_template_limits l = {.max_output_bytes = 5};
    assert_int_equal(render("{{ s }}12", &l, &out, &e), 0);
    assert_int_equal(render("{{ s }}123", &l, &out, &e), -LLMD_ELIMIT);
    assert_string_equal(out.data, "abc12");
    err_clear(&e);
    l = (struct chat_template_limits){.max_steps = 50};
    assert_int_equal(render("{% for x in range(3) %}{% endfor %}", &l, &out, &e), 0);
    assert_int_equal(render("{% for x in range(99) %}{% endfor %}", &l, &out, &e), -LLMD_ELIMIT);
    err_clear(&e);
    l = (struct chat_template_limits){.max_depth = 3};
    assert_int_equal(render("{{ 1 + 1 }}", &l, &out, &e), 0);
    assert_int_equal(render("{{ 1 + (1 + (1 + 1)) }}", &l, &out, &e), -LLMD_ELIMIT);
    err_clear(&e);
    l = (struct chat_template_limits){.max_memory_bytes = 10000};
    assert_int_equal(render("{{ ('x' * 1000)|length }}", &l, &out, &e), 0);
    assert_int_equal(render("{{ ('x' * 10000)|length }}", &l, &out, &e), -LLMD_ELIMIT);
    buf_fini(&out);
}

/* Text that is built piece by piece, and long messages, take memory in proportion. */
static void memory_is_linear(void **state)
{
    (void)state;
    struct buf out = {0};
    struct err e = {0};
    if (render("{% set n = namespace(s='', l=[]) %}{% for i in range(20000) %}"
               "{% set n.s = n.s + '<|im_start|>' + s * 5 + '<|im_end|>' %}"
               "{% set n.l = n.l + [i] %}{% endfor %}{{ n.s|length }} {{ n.l|length }}",
               NULL, &out, &e))
        fail_msg("%s", e.msg);
    assert_string_equal(out.data, "740000 20000");
    buf_clear(&out);

    struct chat_template *t = NULL;
    json_t *context = json_object();
    char *text = many("", "words and words ", 500000, "");
    json_object_set_new(context, "text", json_string(text));
    const char *source = "{{ '<|im_start|>' + text + '<|im_end|>' + '\\n' + 'x' }}{{ text|trim }}";
    struct chat_template_limits l = {.max_output_bytes = 32 << 20};
    assert_int_equal(chat_template_parse(source, strlen(source), &t, &e), 0);
    if (chat_template_render(t, context, &l, &out, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(out.len, 2 * strlen(text) + 24 - 1);
    free(text);
    json_decref(context);
    chat_template_free(t);
    buf_fini(&out);
}

/* Much of the language in one template. */
static const char everything[] =
    "{%- macro m(a, b='x', c=a) %}{{ a }}{{ b|upper }}{{ varargs }}{{ kwargs }}{{ caller(a) }}"
    "{% endmacro -%}{% set ns = namespace(n=0, l=[1, 'two', 3.5, none]) %}"
    "{% for x in ns.l + ['y'] if (x is not none) recursive %}{{ loop.index }}{{ loop.last }}"
    "{{ loop.nextitem }}{{ loop.length }}{{ loop.cycle(1, 2) }}{{ loop.changed(x) }}"
    "{% set ns.n = ns.n + 1 %}{% else %}none{% endfor %}"
    "{% call(q) m(1, 2, 3, 4, d=s) %}[{{ q ~ s }}]{% endcall %}"
    "{% set t | replace('a', 'b') %}abc {{ s[::-1] }}{% endset %}{{ t.split(' ')|join('-') }}"
    "{% with u = {'k': [1, (2,)], 3: true} %}{{ u }}{{ u|tojson(indent=1) }}{{ u.items()|list }}"
    "{{ u|dictsort(by='key')|length if false else u.k }}{% endwith %}"
    "{% filter title %}some words{% endfilter %}{{ '%05.1f|%s' % (3.14159, [s]) }}"
    "{{ '{0:>{w}}|{0!r}'.format(s, w=6) }}{{ [3, 1, 2]|sort|map('string')|join }}"
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }}"
    "{{ ['b', 'A', 'b']|unique|list }}{{ [1, 2, 3]|batch(2, 0)|list }}{{ [1, 2]|slice(2)|list }}"
    "{{ [{'g': 1}, {'g': 2}]|groupby('g') }}{{ 'a b'|wordcount }}{{ ('<' * 3)|e }}{{ 7 // 2 }}"
    "{{ range(9)[1:5]|sum }}{{ 'x\\ny'|indent }}{{ '  q '|trim }}{{ strftime_now('%Y') }}"
    "{% generation %}{{ cycler(1, 2).next() }}{% endgeneration %}{{ dict(a=1)|xmlattr }}"
    "{{ 'abc'|reverse }}{{ {'a': s} == {'a': 'abc'} }}{{ s in [s] and 'b' in s }}";

/* However early a limit is reached, the rendering ends cleanly; with enough it is the same. */
static void every_limit(void **state)
{
    (void)state;
    struct buf want = {0}, out = {0};
    struct err e = {0};
    if (render(everything, NULL, &want, &e))
        fail_msg("%s", e.msg);
    for (int what = 0; what < 4; what++) {
        int rc = -LLMD_ELIMIT;
        for (size_t limit = 1; rc; limit += 1 + limit / 32) {
            struct chat_template_limits l = {.max_steps = what == 0 ? limit : 0,
                                             .max_memory_bytes = what == 1 ? limit : 0,
                                             .max_output_bytes = what == 2 ? limit : 0,
                                             .max_depth = what == 3 ? (uint32_t)limit : 0};
            rc = render(everything, &l, &out, &e);
            if (rc && rc != -LLMD_ELIMIT)
                fail_msg("limit %d of %zu: %s", what, limit, e.msg);
            err_clear(&e);
            if (limit > 1 << 24)
                fail_msg("no end of limit %d", what);
        }
        assert_string_equal(out.data, want.data);
        buf_clear(&out);
    }
    buf_fini(&want);
    buf_fini(&out);
}

static void deep_context_is_refused(void **state)
{
    (void)state;
    struct chat_template *t = NULL;
    struct buf out = {0};
    struct err e = {0};
    json_t *context = json_object(), *inner = context;
    for (int i = 0; i < 1000; i++) {
        json_t *next = json_object();
        json_object_set_new(inner, "x", next);
        inner = next;
    }
    assert_int_equal(chat_template_parse("{{ x }}", 7, &t, &e), 0);
    assert_int_equal(chat_template_render(t, context, NULL, &out, &e), -LLMD_ELIMIT);
    json_decref(context);
    chat_template_free(t);
    buf_fini(&out);
}

static void time_of_day(void **state)
{
    (void)state;
    struct buf out = {0};
    struct err e = {0};
    struct chat_template_limits l = {.now_unix_s = 1721997296};
    const char *source = "{{ strftime_now('%d %b %Y %H:%M:%S.%f%z%%') }}";
    assert_int_equal(render(source, &l, &out, &e), 0);
    assert_string_equal(out.data, "26 Jul 2024 12:34:56.000000%");
    buf_clear(&out);
    uint64_t before_s = clock_wall_us() / 1000000;
    assert_int_equal(render("{{ strftime_now('%s') }}", NULL, &out, &e), 0);
    uint64_t got_s = strtoull(out.data, NULL, 10), after_s = clock_wall_us() / 1000000;
    assert_true(before_s <= got_s && got_s <= after_s);
    buf_fini(&out);
}

enum { N_THREADS = 4, N_ROUNDS = 200 };

struct shared {
    const struct chat_template *t;
    const json_t *context;
    const char *want;
};

static void *render_often(void *arg)
{
    const struct shared *s = arg;
    struct buf out = {0};
    bool same = true;
    for (int i = 0; i < N_ROUNDS && same; i++) {
        buf_clear(&out);
        same = chat_template_render(s->t, s->context, NULL, &out, NULL) == 0 &&
               strcmp(buf_str(&out), s->want) == 0;
    }
    buf_fini(&out);
    return same ? arg : NULL;
}

/* One template and one context, rendered by several threads at once. */
static void threads_share_a_template(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(x) %}[{{ x|upper }}]{% endmacro %}{% set ns = namespace(n=0) %}"
        "{% for c in 'h\xc3\xa9llo' %}{{ m(c) }}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
        "{{ s[1:] ~ 'w\xc3\xb6rld'[1] ~ 'h\xc3\xa9llo'|length }}";
    struct chat_template *t = NULL;
    struct err e = {0};
    pthread_t threads[N_THREADS];
    json_t *context = json_loads(chat, 0, NULL);
    assert_int_equal(chat_template_parse(source, sizeof(source) - 1, &t, &e), 0);
    struct shared s = {t, context,
                       "[H][\xc3\x89][L][L][O]5bc\xc3\xb6"
                       "5"};
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &s), 0);
    for (int i = 0; i < N_THREADS; i++) {
        void *ok = NULL;
        pthread_join(threads[i], &ok);
        assert_non_null(ok);
    }
    chat_template_free(t);
    json_decref(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders),
        cmocka_unit_test(output_is_appended),
        cmocka_unit_test(context_must_be_an_object),
        cmocka_unit_test(messages),
        cmocka_unit_test(hostile_renderings),
        cmocka_unit_test(hostile_sources),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(memory_is_linear),
        cmocka_unit_test(every_limit),
        cmocka_unit_test(deep_context_is_refused),
        cmocka_unit_test(time_of_day),
        cmocka_unit_test(threads_share_a_template),
    };
    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
