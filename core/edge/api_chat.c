/* api_chat.c - chat messages to prompt tokens: the messages are checked, put into the form that
 * templates expect (plain text content, no developer role unless the template knows it), rendered
 * by the model's template and tokenized. */
#include <stdio.h>
#include <string.h>

#include "core/edge/fields.h"
#include "core/edge/plan.h"
#include "core/model/model.h"
#include "core/util/json.h"
#include "core/util/printable.h"
#include "core/util/search.h"

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};

/* Where a fault is: "messages[3].content" and so on. */
struct place {
    char path[64];
};

static int wrong(const struct place *at, const char *what, const json_t *is, struct err *e)
{
    char given[40];
    return err_set_param(e, LLMD_EINVAL, "messages", "%s must be %s, not %s", at->path, what,
                         field_describe(is, given, sizeof(given)));
}

static bool known_role(const char *role)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(role, roles[i]) == 0)
            return true;
    return false;
}

/* A list of text parts to one string, joined by line feeds. */
static int join_parts(const json_t *parts, size_t message, json_t **out, struct err *e)
{
    struct buf text = {0};
    struct place at;
    char shown[40];
    size_t i;
    json_t *part;
    int rc = 0;
    json_array_foreach(parts, i, part)
    {
        snprintf(at.path, sizeof(at.path), "messages[%zu].content[%zu]", message, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *t = json_object_get(part, "text");
        if (type && strcmp(type, "text") != 0) {
            printable_text(type, strlen(type), "", shown, sizeof(shown));
            rc =
                err_set_param(e, LLMD_EUNSUPPORTED, "messages",
                              "%s is of type '%s', but this model takes text only", at.path, shown);
        }
        if (rc == 0 && (!type || !json_is_string(t)))
            rc = wrong(&at, "of the form {\"type\": \"text\", \"text\": \"...\"}", part, e);
        if (rc != 0)
            break;
        if (i > 0)
            buf_addch(&text, '\n');
        buf_add(&text, json_string_value(t), json_string_length(t));
    }
    if (rc == 0) {
        *out = text.failed ? NULL : json_stringn(buf_str(&text), text.len);
        rc = *out ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the messages");
    }
    buf_fini(&text);
    return rc;
}

static int set_content(json_t *to, const json_t *message, size_t index, const char *role,
                       struct err *e)
{
    struct place at;
    snprintf(at.path, sizeof(at.path), "messages[%zu].content", index);
    json_t *content = field_get(message, "content"), *text = NULL;
    if (json_is_array(content)) {
        int rc = join_parts(content, index, &text, e);
        if (rc != 0)
            return rc;
    } else if (json_is_string(content))
        text = json_incref(content);
    else if (!content && strcmp(role, "assistant") == 0)
        text = field_get(message, "tool_calls") ? json_null() : json_string("");
    else
        return wrong(&at, "a string or a list of text parts", content, e);
    return json_object_set_new(to, "content", text) == 0
               ? 0
               : err_set(e, LLMD_ENOMEM, "out of memory for the messages");
}

/* Templates want the arguments of a call as an object; clients send them as a string of JSON. */
static int parse_arguments(json_t *call, const struct place *at, struct err *e)
{
    json_t *function = json_object_get(call, "function");
    const json_t *args = json_object_get(function, "arguments");
    if (!json_is_object(function) || !json_is_string(json_object_get(function, "name")))
        return wrong(at, "of the form {\"type\": \"function\", \"function\": {...}}", call, e);
    if (!json_is_string(args))
        return 0;
    json_t *parsed = NULL;
    struct err why = {0};
    if (json_parse(json_string_value(args), json_string_length(args), &parsed, &why) != 0 ||
        !json_is_object(parsed)) {
        json_decref(parsed);
        return err_set_param(e, LLMD_EINVAL, "messages",
                             "%s.function.arguments must be a JSON object written as a string",
                             at->path);
    }
    return json_object_set_new(function, "arguments", parsed) == 0
               ? 0
               : err_set(e, LLMD_ENOMEM, "out of memory for the messages");
}

static int set_tool_calls(json_t *to, const json_t *message, size_t index, struct err *e)
{
    struct place at;
    snprintf(at.path, sizeof(at.path), "messages[%zu].tool_calls", index);
    json_t *given = field_get(message, "tool_calls");
    if (!given)
        return 0;
    if (!json_is_array(given))
        return wrong(&at, "a list", given, e);
    json_t *calls = json_deep_copy(given);
    if (!calls || json_object_set_new(to, "tool_calls", calls) != 0)
        return err_set(e, LLMD_ENOMEM, "out of memory for the messages");
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        snprintf(at.path, sizeof(at.path), "messages[%zu].tool_calls[%zu]", index, i);
        int rc = parse_arguments(call, &at, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Copies what templates know of a message: role, content, name, tool calls, reasoning. */
static int copy_message(const json_t *message, size_t index, bool keep_developer, json_t *to,
                        struct err *e)
{
    struct place at;
    snprintf(at.path, sizeof(at.path), "messages[%zu]", index);
    if (!json_is_object(message))
        return wrong(&at, "an object with role and content", message, e);
    const json_t *given = field_get(message, "role");
    const char *role = json_string_value(given);
    if (!role || !known_role(role)) {
        snprintf(at.path, sizeof(at.path), "messages[%zu].role", index);
        return wrong(&at, "one of system, developer, user, assistant, tool", given, e);
    }
    if (!keep_developer && strcmp(role, "developer") == 0)
        role = "system";
    if (json_object_set_new(to, "role", json_string(role)) != 0)
        return err_set(e, LLMD_ENOMEM, "out of memory for the messages");
    int rc = set_content(to, message, index, role, e);
    if (rc == 0)
        rc = set_tool_calls(to, message, index, e);

    static const char *const extras[][2] = {{"name", "name"},
                                            {"tool_call_id", "tool_call_id"},
                                            {"reasoning", "reasoning_content"},
                                            {"reasoning_content", "reasoning_content"}};
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(extras); i++) {
        json_t *v = field_get(message, extras[i][0]);
        if (json_is_string(v) && json_object_set(to, extras[i][1], v) != 0)
            rc = err_set(e, LLMD_ENOMEM, "out of memory for the messages");
    }
    return rc;
}

static int copy_messages(const json_t *body, const struct model *model, json_t *to, struct err *e)
{
    const json_t *messages = field_get(body, "messages");
    if (!messages)
        return err_set_param(e, LLMD_EINVAL, "messages", "field 'messages' is required");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return field_wrong("messages", "a list of at least one message", messages, e);
    bool keep_developer = strstr(model->chat_template_source, "developer") != NULL;
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message)
    {
        json_t *copy = json_object();
        if (!copy || json_array_append_new(to, copy) != 0)
            return err_set(e, LLMD_ENOMEM, "out of memory for the messages");
        int rc = copy_message(message, i, keep_developer, copy, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* reasoning_effort reaches the template by its name, and as enable_thinking unless that is given. */
static int add_reasoning(const json_t *body, const json_t *kwargs, json_t *context, struct err *e)
{
    static const char *const efforts[] = {"none", "minimal", "low", "medium",
                                          "high", "xhigh",   "max"};
    const char *effort = NULL;
    int rc = field_string(body, "reasoning_effort", &effort, e);
    if (rc != 0 || !effort)
        return rc;
    size_t i = 0;
    while (i < ARRAY_LEN(efforts) && strcmp(efforts[i], effort) != 0)
        i++;
    if (i == ARRAY_LEN(efforts))
        return err_set_param(e, LLMD_EINVAL, "reasoning_effort",
                             "field 'reasoning_effort' must be one of none, minimal, low, medium, "
                             "high, xhigh, max");
    rc = json_object_set_new(context, "reasoning_effort", json_string(effort));
    if (!json_object_get(kwargs, "enable_thinking"))
        rc |= json_object_set_new(context, "enable_thinking",
                                  json_boolean(strcmp(effort, "none") != 0));
    return rc == 0 ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the template's variables");
}

/* The template's variables but for the messages. *out_continue: the last message goes on. */
static int fill_context(const json_t *body, const struct model *model, json_t *context,
                        bool *out_continue, struct err *e)
{
    bool go_on = false, prompt = true;
    json_t *kwargs = NULL, *documents = field_get(body, "documents");
    if (documents && !json_is_array(documents))
        return field_wrong("documents", "a list of objects", documents, e);
    int rc = field_bool(body, "continue_final_message", &go_on, e);
    if (rc == 0)
        rc = field_bool(body, "add_generation_prompt", &prompt, e);
    if (rc == 0)
        rc = field_object(body, "chat_template_kwargs", &kwargs, e);
    if (rc == 0)
        rc = add_reasoning(body, kwargs, context, e);
    if (rc != 0)
        return rc;
    if (go_on && prompt && field_get(body, "add_generation_prompt"))
        return err_set_param(e, LLMD_EINVAL, "continue_final_message",
                             "fields 'continue_final_message' and 'add_generation_prompt' cannot "
                             "both be true");
    *out_continue = go_on;
    int bad = json_object_set_new(context, "bos_token", json_string(model->bos_token));
    bad |= json_object_set_new(context, "eos_token", json_string(model->eos_token));
    bad |= json_object_set_new(context, "add_generation_prompt", json_boolean(prompt && !go_on));
    bad |= json_object_set_new(context, "tools", json_null());
    bad |=
        json_object_set_new(context, "documents", documents ? json_incref(documents) : json_null());
    const char *key;
    json_t *value;
    json_object_foreach(kwargs, key, value)
    {
        if (strcmp(key, "messages") != 0)
            bad |= json_object_set(context, key, value);
    }
    return bad == 0 ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the template's variables");
}

/* s without the blanks at its ends. */
static void strip(const char **s, size_t *n)
{
    static const char blanks[] = " \t\n\r\f\v";
    while (*n > 0 && strchr(blanks, (*s)[0]) && (*s)[0]) {
        ++*s;
        --*n;
    }
    while (*n > 0 && strchr(blanks, (*s)[*n - 1]) && (*s)[*n - 1])
        --*n;
}

/* Cuts the rendered text behind the last message's content, so that the model goes on with it.
 * Blanks at the content's end stay when the template kept them. */
static int cut_after_last(const json_t *messages, struct buf *text, struct err *e)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    const char *s = json_string_value(content), *end;
    size_t n = json_string_length(content), n_bare = n;
    const char *bare = s;
    if (s)
        strip(&bare, &n_bare);
    if (!s || n_bare == 0)
        return err_set_param(e, LLMD_EINVAL, "continue_final_message",
                             "field 'continue_final_message' needs a last message with text");
    size_t offset;
    int rc = search_last(buf_str(text), text->len, bare, n_bare, &offset);
    if (rc == -LLMD_ENOMEM)
        return err_set(e, LLMD_ENOMEM, "out of memory for the last message");
    if (rc != 0)
        return err_set_param(e, LLMD_EINVAL, "continue_final_message",
                             "field 'continue_final_message' cannot be used: the model's chat "
                             "template changes the last message");
    const char *at = text->data + offset;
    size_t n_tail = n - (size_t)(bare - s); /* with the blanks at its end */
    end = at + n_bare;
    if ((size_t)(text->data + text->len - at) >= n_tail && memcmp(at, bare, n_tail) == 0)
        end = at + n_tail;
    buf_truncate(text, (size_t)(end - text->data));
    return 0;
}

/* echo: what is generated is shown behind the message that it continues. */
static int keep_echo(const json_t *messages, bool go_on, struct plan *p, struct err *e)
{
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *role = json_string_value(json_object_get(last, "role"));
    const json_t *content = json_object_get(last, "content");
    struct plan_prompt *to = &p->prompts[0];
    if (!p->echo || !go_on || !role || strcmp(role, "assistant") != 0 || !json_is_string(content))
        return 0;
    to->n_text = json_string_length(content);
    to->text = arena_strndup(&p->arena, json_string_value(content), to->n_text);
    return to->text ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the last message");
}

static int render(const json_t *body, struct plan *p, struct buf *text, struct err *e)
{
    const struct model *model = p->model->model;
    bool go_on = false;
    json_t *context = json_object(), *messages = json_array();
    int rc = 0;
    if (!context || !messages || json_object_set(context, "messages", messages) != 0)
        rc = err_set(e, LLMD_ENOMEM, "out of memory for the messages");
    if (rc == 0)
        rc = copy_messages(body, model, messages, e);
    if (rc == 0)
        rc = fill_context(body, model, context, &go_on, e);
    if (rc == 0) {
        rc = chat_template_render(model->chat_template, context, NULL, text, e);
        if (rc != 0)
            err_prefix(e, "the model's chat template refused the messages: ");
    }
    if (rc == 0 && go_on)
        rc = cut_after_last(messages, text, e);
    if (rc == 0)
        rc = keep_echo(messages, go_on, p, e);
    json_decref(messages);
    json_decref(context);
    return rc;
}

/* return_prompt_text: what the template made. */
static int keep_rendered(const struct buf *text, struct plan *p, struct err *e)
{
    struct plan_prompt *to = &p->prompts[0];
    if (!p->return_prompt_text)
        return 0;
    to->rendered = arena_strndup(&p->arena, buf_str(text), text->len);
    to->n_rendered = text->len;
    return to->rendered ? 0 : err_set(e, LLMD_ENOMEM, "out of memory for the prompt");
}

int plan_chat_prompt(const json_t *body, struct plan *p, struct err *e)
{
    const char *fault = p->model->model->chat_template_fault;
    if (fault)
        return err_set_param(e, LLMD_EUNSUPPORTED, "model",
                             "the chat template of model `%s` cannot be used: %s; use "
                             "/v1/completions",
                             p->model->name, fault);
    if (!p->model->model->chat_template)
        return err_set_param(e, LLMD_EUNSUPPORTED, "model",
                             "the model `%s` has no chat template; use /v1/completions",
                             p->model->name);
    p->prompts = arena_array(&p->arena, 1, sizeof(*p->prompts));
    if (!p->prompts)
        return err_set(e, LLMD_ENOMEM, "out of memory for the prompt");
    p->n_prompts = 1;

    struct buf text = {0};
    int rc = field_bool(body, "return_prompt_text", &p->return_prompt_text, e);
    if (rc == 0)
        rc = render(body, p, &text, e);
    if (rc == 0)
        rc = keep_rendered(&text, p, e);
    if (rc == 0)
        rc = tokenizer_encode(p->rules.tokenizer, buf_str(&text), text.len, p->tokenize_flags,
                              &p->prompts[0].tokens, e);
    buf_fini(&text);
    if (rc == 0)
        (void)plan_truncate(p, &p->prompts[0].tokens);
    return rc;
}
