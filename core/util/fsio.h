/* fsio.h - files: read-only mappings and whole-file reads. */
#pragma once
#include "core/util/base.h"
#include "core/util/err.h"

struct buf;

struct file_map {
    const void *data; /* page aligned; NULL for an empty file */
    size_t size_bytes;
    char *path; /* for messages */
};

/* Maps a regular file read-only. Errors: ENOTFOUND, EIO, EINVAL (no regular file). */
MUST_CHECK int file_map_open(struct file_map *m, const char *path, struct err *e);
void file_map_close(struct file_map *m); /* a zeroed map is fine */
/* Tells the kernel that these bytes were copied and their pages may go. */
void file_map_drop(const struct file_map *m, const void *from, size_t n_bytes);
/* Tells the kernel that these bytes of a mapping will be wanted soon. Advice: it cannot fail. */
void file_map_read_ahead(const void *from, size_t n_bytes);

/* Appends the whole file to b. ETOOBIG when it holds more than max_bytes; b keeps what it held
 * on failure. */
MUST_CHECK int file_read(const char *path, size_t max_bytes, struct buf *b, struct err *e);
