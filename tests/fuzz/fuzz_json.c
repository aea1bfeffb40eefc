/* fuzz_json.c - any bytes as JSON: what parses is written by our writer, parsed and written again;
 * both texts must be the same. What is refused says so in one line. The reader without trees must
 * agree with the parser on everything. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/json.h"
#include "core/util/utf8.h"
#include "tests/unit/json_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void write_value(struct buf *b, const json_t *v)
{
    const char *sep = "";
    if (json_is_string(v))
        json_add_str(b, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        buf_addf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v)) /* "-0" would come back as the integer 0 */
        json_add_double(b, json_real_value(v) == 0 ? 0 : json_real_value(v));
    else if (json_is_array(v)) {
        buf_addch(b, '[');
        for (size_t i = 0; i < json_array_size(v); i++, sep = ",") {
            buf_addstr(b, sep);
            write_value(b, json_array_get(v, i));
        }
        buf_addch(b, ']');
    } else if (json_is_object(v)) {
        json_t *obj = (json_t *)(uintptr_t)v; /* jansson's iterator takes no const */
        buf_addch(b, '{');
        for (void *it = json_object_iter(obj); it; it = json_object_iter_next(obj, it), sep = ",") {
            buf_addstr(b, sep);
            json_add_cstr(b, json_object_iter_key(it));
            buf_addch(b, ':');
            write_value(b, json_object_iter_value(it));
        }
        buf_addch(b, '}');
    } else
        buf_addstr(b, json_is_null(v) ? "null" : json_is_true(v) ? "true" : "false");
}

static void check_message(const struct err *e)
{
    if (e->code != LLMD_EPARSE || !e->msg[0])
        abort();
    for (const char *p = e->msg; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *v, *again;
    struct err e = {0};
    struct buf first = {0}, second = {0};
    const char *why;
    if (!json_readers_agree((const char *)data, n, &why))
        abort();
    if (json_parse((const char *)data, n, &v, &e) != 0) {
        check_message(&e);
        return 0;
    }
    write_value(&first, v);
    if (first.failed || !utf8_valid(first.data, first.len) ||
        json_parse(first.data, first.len, &again, NULL) != 0)
        abort();
    write_value(&second, again);
    if (second.len != first.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    json_decref(v);
    json_decref(again);
    buf_fini(&first);
    buf_fini(&second);
    return 0;
}
