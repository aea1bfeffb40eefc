/* model_file_int.h - the files that a model is made of, as they lie on a disk. */
#pragma once
#include "core/util/fsio.h"

/* As file_map_open, but refuses what Git LFS leaves where it has not fetched the file itself. */
MUST_CHECK int model_file_map(struct file_map *m, const char *path, struct err *e);

/* False only when FOLDER has no entry of that name. A link that leads nowhere and a folder that may
 * not be searched are left to the one who opens the file: the message is then the system's own. */
bool model_file_listed(const char *folder, const char *name);
