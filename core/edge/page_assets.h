/* page_assets.h - the files of web/, as they were when this program was built (web/embed.sh). */
#pragma once
#include <stddef.h>

struct page_asset {
    const char *name; /* "index.html" */
    const char *type; /* Content-Type */
    const char *hash; /* 16 hexadecimal digits of its SHA-256 */
    const unsigned char *plain, *plain_end;
    const unsigned char *gzip, *gzip_end;
};

/* NULL: there is none. */
const struct page_asset *page_asset(const char *name);
