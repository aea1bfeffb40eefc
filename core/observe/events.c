#include "core/observe/events.h"

#include <stdio.h>
#include <string.h>

#include "core/util/clock.h"
#include "core/util/json.h"
#include "core/util/lock.h"

struct event {
    uint64_t wall_us;
    enum log_level level;
    char area[16], text[EVENT_TEXT_MAX];
};

static struct {
    struct lock mu;
    uint64_t n; /* noted so far; number i lies at (i - 1) % EVENTS_MAX */
    struct event kept[EVENTS_MAX];
} events = {.mu = {.mu = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_RANK_LEAF}};

void event_note(enum log_level level, const char *area, const char *fmt, ...)
{
    static const char dots[] = "...";
    struct event now = {.wall_us = clock_wall_us(), .level = level};
    va_list ap;
    va_start(ap, fmt);
    log_vline(level, area, fmt, ap);
    va_end(ap);

    snprintf(now.area, sizeof(now.area), "%s", area);
    va_start(ap, fmt);
    int n = vsnprintf(now.text, sizeof(now.text), fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof(now.text))
        memcpy(now.text + sizeof(now.text) - sizeof(dots), dots, sizeof(dots));
    lock_take(&events.mu);
    events.kept[events.n++ % EVENTS_MAX] = now;
    lock_drop(&events.mu);
}

static void add_event(const struct event *v, uint64_t number, struct buf *out)
{
    char time[CLOCK_UTC_SIZE];
    clock_utc(v->wall_us, time);
    buf_addf(out, "{\"number\":%llu,\"time\":\"%s\",\"level\":\"%s\",\"area\":",
             (unsigned long long)number, time, log_level_name(v->level));
    json_add_cstr(out, v->area);
    buf_addstr(out, ",\"text\":");
    json_add_cstr(out, v->text);
    buf_addch(out, '}');
}

/* Copies the oldest event that is kept and numbered above `after`, up to `last`; its number, 0 when
 * there is none. */
static uint64_t next_event(uint64_t after, uint64_t last, struct event *out)
{
    if (after >= last)
        return 0;
    lock_take(&events.mu);
    uint64_t oldest = events.n > EVENTS_MAX ? events.n - EVENTS_MAX + 1 : 1;
    uint64_t number = u64_max(after + 1, oldest);
    *out = events.kept[(number - 1) % EVENTS_MAX];
    lock_drop(&events.mu);
    return number;
}

void events_add_json(uint64_t after, struct buf *out)
{
    struct event v;
    uint64_t number;
    lock_take(&events.mu);
    const uint64_t last = events.n;
    lock_drop(&events.mu);
    buf_addstr(out, "{\"events\":[");
    for (const char *comma = ""; (number = next_event(after, last, &v)) != 0; comma = ",") {
        buf_addstr(out, comma);
        add_event(&v, number, out);
        after = number;
    }
    buf_addf(out, "],\"last\":%llu}", (unsigned long long)last);
}
