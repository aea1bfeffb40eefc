#include "core/edge/page_assets.h"

#include <string.h>

#include "core/util/base.h"

#include "core/edge/page_assets_list.h" /* made by web/embed.sh */

#define ASSET(number, name, type, hash)                                                            \
    extern const unsigned char page_plain_##number[], page_plain_##number##_end[];                 \
    extern const unsigned char page_gzip_##number[], page_gzip_##number##_end[];
PAGE_ASSETS
#undef ASSET

static const struct page_asset assets[] = {
#define ASSET(number, name, type, hash)                                                            \
    {name,                                                                                         \
     type,                                                                                         \
     hash,                                                                                         \
     page_plain_##number,                                                                          \
     page_plain_##number##_end,                                                                    \
     page_gzip_##number,                                                                           \
     page_gzip_##number##_end},
    PAGE_ASSETS
#undef ASSET
};

const struct page_asset *page_asset(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(assets); i++)
        if (strcmp(assets[i].name, name) == 0)
            return &assets[i];
    return NULL;
}
