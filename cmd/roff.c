#include "cmd/roff.h"

#include <string.h>

static void add_line(struct buf *out, const char *line, size_t n)
{
    if (n > 0 && (line[0] == '.' || line[0] == '\''))
        buf_addstr(out, "\\&");
    for (size_t i = 0; i < n; i++)
        if (line[i] == '\\')
            buf_addstr(out, "\\e");
        else if (line[i] == '-')
            buf_addstr(out, "\\-");
        else
            buf_addch(out, line[i]);
    buf_addch(out, '\n');
}

void roff_text(struct buf *out, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        add_line(out, text, n);
        text += n;
        text += *text == '\n';
    }
}

void roff_paragraphs(struct buf *out, const char *text)
{
    bool as_it_is = false;
    while (*text) {
        const size_t n = strcspn(text, "\n");
        const bool indented = text[0] == ' ';
        if (indented != as_it_is)
            buf_addstr(out, indented ? ".nf\n" : ".fi\n");
        as_it_is = indented;
        if (n == 0)
            buf_addstr(out, ".PP\n");
        else
            add_line(out, text, n);
        text += n;
        text += *text == '\n';
    }
    if (as_it_is)
        buf_addstr(out, ".fi\n");
}

void roff_heading(struct buf *out, const char *request, const char *text)
{
    buf_addf(out, ".%s \"", request);
    for (; *text; text++)
        if (*text == '"')
            buf_addstr(out, "\\(dq");
        else if (*text == '-')
            buf_addstr(out, "\\-");
        else
            buf_addch(out, *text);
    buf_addstr(out, "\"\n");
}
