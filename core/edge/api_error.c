#include "core/edge/api_error.h"

#include "core/util/json.h"

void api_error_write(struct buf *out, unsigned status, const char *type, const char *code_word,
                     const char *param, const char *message)
{
    buf_addstr(out, "{\"error\":{\"message\":");
    json_add_cstr(out, message);
    buf_addstr(out, ",\"type\":");
    json_add_cstr(out, type);
    buf_addstr(out, ",\"param\":");
    json_add_cstr(out, param && *param ? param : NULL);
    buf_addstr(out, ",\"code\":");
    if (code_word)
        json_add_cstr(out, code_word);
    else
        buf_addf(out, "%u", status);
    buf_addstr(out, "}}");
}

void api_error_add(struct buf *out, const struct err *e)
{
    /* Clients look for this word to know that they must shorten the prompt. */
    const char *word = e->code == LLMD_ECONTEXT ? "context_length_exceeded" : NULL;
    api_error_write(out, (unsigned)err_http_status(e->code), err_openai_type(e->code), word,
                    e->param, e->msg[0] ? e->msg : err_text(e->code));
}
