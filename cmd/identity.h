/* identity.h - whether files are the ones that were there before. */
#pragma once
#include "core/util/base.h"

/* A number over names, sizes, times and inodes of a model's files (those of a folder, or the one), which
 * changes when one of them is replaced or written. 0: they cannot be looked at. */
uint64_t identity_of(const char *path);
