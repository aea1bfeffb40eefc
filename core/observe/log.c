#include "core/observe/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/observe/sink.h"
#include "core/util/clock.h"
#include "core/util/printable.h"

static struct {
    struct sink sink;
    bool journal;
    _Atomic int level;
    _Atomic uint64_t n_dropped;
    _Atomic uint64_t n_reported;
} log_state = {.sink = {.fd = STDERR_FILENO}, .level = LOG_INFO};

static const struct {
    const char *name;
    const char *padded;
    int syslog; /* sd-daemon(3) */
} levels[] = {
    [LOG_ERROR] = {"error", "error", 3},
    [LOG_WARN] = {"warn", "warn ", 4},
    [LOG_INFO] = {"info", "info ", 6},
    [LOG_DEBUG] = {"debug", "debug", 7},
};

void log_init(int fd, enum log_level level, bool journal)
{
    sink_close(&log_state.sink);
    sink_open(&log_state.sink, fd);
    log_state.journal = journal;
    atomic_store(&log_state.n_dropped, 0);
    atomic_store(&log_state.n_reported, 0);
    log_set_level(level);
}

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
    return atomic_load(&log_state.n_dropped);
}

bool log_level_parse(const char *s, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (strcmp(s, levels[i].name) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

/* A line under construction. Room for "...\n" and a NUL is always kept behind the text. */
struct line {
    char text[LOG_LINE_MAX + 1];
    size_t len;
    bool cut;
};

enum { LINE_TEXT_MAX = LOG_LINE_MAX - 4 };

/* The beginning of a line: time and level, or the journal's prefix. Never too long. */
static void line_begin(struct line *l, enum log_level level)
{
    if (log_state.journal) {
        l->len = (size_t)snprintf(l->text, sizeof(l->text), "<%d>", levels[level].syslog);
        return;
    }
    char now[CLOCK_UTC_SIZE];
    clock_utc(clock_wall_us(), now);
    l->len = (size_t)snprintf(l->text, sizeof(l->text), "%s %s ", now, levels[level].padded);
}

/* Appends s with control characters escaped: whatever a message holds, it stays one line. */
static void line_add(struct line *l, const char *s)
{
    for (size_t n = strlen(s); n > 0 && !l->cut;) {
        char shown[PRINTABLE_ESCAPE_MAX];
        size_t n_shown, used = printable_next(s, n, shown, &n_shown);
        if (l->len + n_shown > LINE_TEXT_MAX) {
            l->cut = true;
            return;
        }
        memcpy(l->text + l->len, shown, n_shown);
        l->len += n_shown;
        s += used;
        n -= used;
    }
}

static bool line_put(struct line *l)
{
    const char *end = l->cut ? "...\n" : "\n";
    size_t n_end = strlen(end);
    memcpy(l->text + l->len, end, n_end);
    return sink_put(&log_state.sink, l->text, l->len + n_end, LOG_WAIT_MS);
}

/* Says how many lines were lost, once per gap. */
static void report_dropped(void)
{
    uint64_t dropped = atomic_load(&log_state.n_dropped);
    uint64_t before = atomic_load(&log_state.n_reported);
    if (dropped <= before ||
        !atomic_compare_exchange_strong(&log_state.n_reported, &before, dropped))
        return; /* another thread does */
    struct line l = {.len = 0};
    char text[64];
    line_begin(&l, LOG_WARN);
    snprintf(text, sizeof(text), "log: lines were lost n=%llu",
             (unsigned long long)(dropped - before));
    line_add(&l, text);
    if (!line_put(&l)) /* the next line that goes through reports them */
        atomic_fetch_sub(&log_state.n_reported, dropped - before);
}

void log_line(enum log_level level, const char *area, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_vline(level, area, fmt, ap);
    va_end(ap);
}

void log_vline(enum log_level level, const char *area, const char *fmt, va_list ap)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno;
    char message[LOG_LINE_MAX];
    struct line l;
    l.len = 0;
    l.cut = false;
    int n = vsnprintf(message, sizeof(message), fmt, ap);
    line_begin(&l, level);
    line_add(&l, area);
    line_add(&l, ": ");
    line_add(&l, n < 0 ? fmt : message);
    if (line_put(&l)) {
        if (UNLIKELY(atomic_load(&log_state.n_dropped) != atomic_load(&log_state.n_reported)))
            report_dropped();
    } else {
        atomic_fetch_add(&log_state.n_dropped, 1);
    }
    errno = saved_errno;
}

const char *log_quote(const char *s, char *out, size_t n_out)
{
    enum { QUOTES = 2, ROOM_MIN = 4 }; /* "..." and a NUL */
    BUG_ON(n_out == 0);
    if (s[0] && !strpbrk(s, " \"")) {
        printable_text(s, strlen(s), "", out, n_out);
        return out;
    }
    out[0] = '\0';
    if (n_out < QUOTES + ROOM_MIN)
        return out; /* no room for anything that could be read rightly */
    size_t n = printable_text(s, strlen(s), "\"\\", out + 1, n_out - QUOTES);
    out[0] = out[n + 1] = '"';
    out[n + 2] = '\0';
    return out;
}
