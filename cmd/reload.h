/* reload.h - the configuration is read anew while requests run.
 *
 *   asked (SIGHUP, llmd reload) ── the file is read and checked ── faults ────────────> failed: all stays
 *                                    │ needs a new start (conf/options.def) ──────────> failed: all stays
 *                                    │ models that came or changed are opened ─ fault ─> failed: all stays
 *                                    v
 *                  keys, limits, log level, aliases, policies: at once
 *                  models that changed, then those that came, then those that went (roll.h) ──> done
 *                                    └─ a new worker does not start ──> failed: that model stays as it was,
 *                                                                       what comes after it is left out
 *
 * A model has changed when an option of it has that workers are made with, or its files on disk.
 *
 * Thread  reload_tick, reload_look, reload_free: the main thread. Others: any. */
#pragma once
#include "cmd/fleet.h"
#include "core/util/buf.h"

struct reload;

/* path: of the configuration file. The fleet is the reload's to change from now on. */
MUST_CHECK int reload_new(struct fleet *f, const char *path, struct reload **out, struct err *e);
void reload_free(struct reload *r); /* NULL is fine */
/* Has the next tick begin one. EFULL: one is under way; with `again` another one follows then. */
MUST_CHECK int reload_ask(struct reload *r, bool again, struct err *e);
/* From when it is asked for until it is done or has failed. */
bool reload_runs(struct reload *r);
/* What can be done now; true while there is more to do. */
bool reload_tick(struct reload *r);
/* Appends what edge_control says of these. */
void reload_add_state(struct reload *r, struct buf *json);
void reload_add_config(struct reload *r, struct buf *json);
void reload_add_options(struct reload *r, struct buf *json);
/* Has the options shown again when the file has changed; every few seconds, on the main thread. */
void reload_look(struct reload *r);
