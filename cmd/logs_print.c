#include "cmd/logs_print.h"

#include <stdio.h>
#include <string.h>

#include "core/util/printable.h"

enum { CELL_MAX = 512 };

/* ---- table ---- */

struct cell {
    const char *head;
    int width; /* negative: to the left */
};
enum column { AT, ID, KEY, MODEL, WORKER, STATUS, FINISH, PROMPT, CACHED, OUT, TTFT, GAP, TOTAL };
static const struct cell cells[] = {
    [AT] = {"TIME (UTC)", -19}, [ID] = {"ID", -25},       [KEY] = {"KEY", -12},
    [MODEL] = {"MODEL", -24},   [WORKER] = {"W", 2},      [STATUS] = {"ST", 3},
    [FINISH] = {"FINISH", -6},  [PROMPT] = {"PROMPT", 7}, [CACHED] = {"CACHED", 7},
    [OUT] = {"OUT", 6},         [TTFT] = {"TTFT ms", 9},  [GAP] = {"GAP ms", 9},
    [TOTAL] = {"TOTAL ms", 10},
};

static void add_cell(struct buf *out, enum column c, const char *text)
{
    buf_addf(out, "%*.*s ", cells[c].width, cells[c].width < 0 ? -cells[c].width : 20, text);
}

static void add_text(struct buf *out, enum column c, const char *s)
{
    char shown[CELL_MAX];
    printable_text(s ? s : "-", strlen(s ? s : "-"), "", shown, sizeof(shown));
    add_cell(out, c, shown[0] ? shown : "-");
}

static void add_count(struct buf *out, enum column c, int64_t v)
{
    char text[24] = "-";
    if (v >= 0)
        snprintf(text, sizeof(text), "%lld", (long long)v);
    add_cell(out, c, text);
}

static void add_ms(struct buf *out, enum column c, int64_t us)
{
    char text[24] = "-";
    if (us >= 0)
        snprintf(text, sizeof(text), "%.1f", (double)us / 1000);
    add_cell(out, c, text);
}

void logs_table_head(struct buf *out)
{
    for (size_t i = 0; i < ARRAY_LEN(cells); i++)
        add_cell(out, (enum column)i, cells[i].head);
    buf_addstr(out, "ERROR\n");
}

void logs_table_row(const struct store_row *row, struct buf *out)
{
    char time[STORE_TIME_CHARS], shown[CELL_MAX];
    store_time_text(row->time_us, time);
    time[10] = ' ';
    add_cell(out, AT, time);
    add_text(out, ID, row->id);
    add_text(out, KEY, row->key);
    add_text(out, MODEL, row->model);
    add_count(out, WORKER, row->worker);
    add_count(out, STATUS, row->status);
    add_text(out, FINISH, row->finish);
    add_count(out, PROMPT, row->prompt_tokens);
    add_count(out, CACHED, row->cached_tokens);
    add_count(out, OUT, row->output_tokens);
    add_ms(out, TTFT, row->first_token_us);
    add_ms(out, GAP, row->slowest_gap_us);
    add_ms(out, TOTAL, row->total_us);
    const char *error = row->error ? row->error : "";
    printable_text(error, strlen(error), "", shown, sizeof(shown));
    buf_addstr(out, shown);
    while (out->len > 0 && out->data[out->len - 1] == ' ')
        buf_truncate(out, out->len - 1);
    buf_addch(out, '\n');
}

/* ---- CSV ---- */

void logs_csv_head(struct buf *out)
{
    const char *comma = "";
    for (int i = 0; i < STORE_N_FIELDS; i++) {
        if (store_columns[i].type == STORE_JSON)
            continue;
        buf_addf(out, "%s%s", comma, store_columns[i].name);
        comma = ",";
    }
    buf_addch(out, '\n');
}

/* In quotes where it must be; nothing for what is not known. */
static void add_csv_text(struct buf *out, const char *s)
{
    char shown[4 * ROW_TEXT_MAX];
    if (!s)
        return;
    printable_text(s, strlen(s), "", shown, sizeof(shown));
    if (!strpbrk(shown, "\",") && shown[0]) {
        buf_addstr(out, shown);
        return;
    }
    buf_addch(out, '"');
    for (const char *p = shown; *p; p++) {
        if (*p == '"')
            buf_addch(out, '"');
        buf_addch(out, *p);
    }
    buf_addch(out, '"');
}

void logs_csv_row(const struct store_row *row, struct buf *out)
{
    const char *comma = "";
    for (int i = 0; i < STORE_N_FIELDS; i++) {
        if (store_columns[i].type == STORE_JSON)
            continue;
        buf_addstr(out, comma);
        comma = ",";
        if (store_columns[i].type == STORE_TEXT)
            add_csv_text(out, store_row_text(row, (enum store_field)i));
        else if (store_row_int(row, (enum store_field)i) >= 0)
            buf_addf(out, "%lld", (long long)store_row_int(row, (enum store_field)i));
    }
    buf_addch(out, '\n');
}
