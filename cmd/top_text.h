/* top_text.h - a snapshot (core/edge/PAGE.md) as a page of a terminal. */
#pragma once
#include <jansson.h>

#include "core/util/buf.h"

enum top_list { TOP_REQUESTS, TOP_DECISIONS };

struct top_view {
    enum top_list list;
    uint32_t first;      /* of the list's entries that is shown */
    uint32_t rows;       /* of the page; 0: as many as it takes */
    bool color;          /* SGR sequences */
    bool paused;         /* the snapshot is an old one, as wanted */
    const char *trouble; /* why there is no newer one; NULL */
};

/* Appends the page; text of the server is made fit for a terminal. Returns how many entries the list has. */
uint32_t top_text(const json_t *snapshot, const struct top_view *view, struct buf *out);
