#include <string.h>

#include "core/edge/fields.h"
#include "core/edge/plan.h"

/* When a given value would change the output. Everything else does no harm and is ignored. */
enum matters {
    WHEN_GIVEN,
    UNLESS_FALSE,
    UNLESS_MINUS_ONE,
    UNLESS_EMPTY, /* string, list or object */
    UNLESS_NONE,  /* the string "none" */
    UNLESS_TEXT,  /* {"type": "text"} */
};

enum { IN_CHAT = 1, IN_COMPLETIONS = 2, IN_BOTH = 3 };

static const struct unsupported {
    const char *name;
    uint8_t where;
    uint8_t when; /* enum matters */
} unsupported[] = {
    {"tools", IN_CHAT, WHEN_GIVEN},
    {"tool_choice", IN_CHAT, UNLESS_NONE},
    {"response_format", IN_BOTH, UNLESS_TEXT},
    {"structured_outputs", IN_BOTH, WHEN_GIVEN},
    {"guided_json", IN_BOTH, WHEN_GIVEN},
    {"guided_regex", IN_BOTH, WHEN_GIVEN},
    {"guided_choice", IN_BOTH, WHEN_GIVEN},
    {"guided_grammar", IN_BOTH, WHEN_GIVEN},
    {"logits_processors", IN_BOTH, UNLESS_EMPTY},
    {"use_beam_search", IN_BOTH, UNLESS_FALSE},
    {"thinking_token_budget", IN_BOTH, UNLESS_MINUS_ONE},
    {"repetition_detection", IN_BOTH, WHEN_GIVEN},
    {"chat_template", IN_CHAT, WHEN_GIVEN},
    {"suffix", IN_COMPLETIONS, UNLESS_EMPTY},
    {"prompt_embeds", IN_COMPLETIONS, WHEN_GIVEN},
};

static bool is_string(const json_t *v, const char *s)
{
    return json_is_string(v) && strcmp(json_string_value(v), s) == 0;
}

static bool matters(enum matters when, const json_t *v)
{
    switch (when) {
    case WHEN_GIVEN:
        return true;
    case UNLESS_FALSE:
        return !json_is_false(v);
    case UNLESS_MINUS_ONE:
        return !json_is_integer(v) || json_integer_value(v) != -1;
    case UNLESS_EMPTY:
        return json_is_string(v) ? json_string_length(v) > 0
                                 : !(json_is_array(v) || json_is_object(v)) ||
                                       json_array_size(v) + json_object_size(v) > 0;
    case UNLESS_NONE:
        return !is_string(v, "none");
    case UNLESS_TEXT:
        return !is_string(json_object_get(v, "type"), "text");
    }
    return true;
}

int plan_refuse_unsupported(const json_t *body, bool chat, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(unsupported); i++) {
        const struct unsupported *u = &unsupported[i];
        if (!(u->where & (chat ? IN_CHAT : IN_COMPLETIONS)))
            continue;
        const json_t *v = field_get(body, u->name);
        if (v && matters((enum matters)u->when, v))
            return err_set_param(e, LLMD_EUNSUPPORTED, u->name,
                                 "field '%s' is not supported by this server; leave it out",
                                 u->name);
    }
    /* best_of asks for more candidates than are returned only when it exceeds n. */
    int64_t n = 1, best_of = 0;
    if (field_int(body, "n", INT64_MIN, INT64_MAX, &n, NULL) == 0 &&
        field_int(body, "best_of", INT64_MIN, INT64_MAX, &best_of, NULL) == 0 && best_of > n)
        return err_set_param(e, LLMD_EUNSUPPORTED, "best_of",
                             "field 'best_of' above n is not supported by this server; leave it "
                             "out");
    return 0;
}
