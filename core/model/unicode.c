#include "core/model/unicode_int.h"

#include <string.h>

static uint32_t run_first(uint32_t i)
{
    return unicode_runs[i] >> 8;
}

void char_classes_init(struct char_classes *c)
{
    for (uint32_t i = 0; i < unicode_n_runs && run_first(i) < CHAR_TABLE_END; i++) {
        uint32_t first = run_first(i);
        uint32_t end = i + 1 < unicode_n_runs ? run_first(i + 1) : CHAR_TABLE_END;
        if (end > CHAR_TABLE_END)
            end = CHAR_TABLE_END;
        memset(c->low + first, (int)(unicode_runs[i] & 0xff), end - first);
    }
}

uint8_t char_class_high(uint32_t cp)
{
    uint32_t lo = 0, hi = unicode_n_runs; /* run lo begins at or before cp, run hi after it */
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (run_first(mid) <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return (uint8_t)(unicode_runs[lo] & 0xff);
}

bool unicode_is_word(uint32_t cp)
{
    uint32_t lo = 0, hi = unicode_n_word_edges; /* edges below lo are at or before cp */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (unicode_word_edges[mid] <= cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo & 1;
}
