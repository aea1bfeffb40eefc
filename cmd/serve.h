/* serve.h - `llmd serve`: wires configuration, models, workers, router and edge, runs until a
 * signal ends it. */
#pragma once

/* Exit codes: 0 after a drain, 1 when serving failed, 2 usage, 3 configuration. */
int cmd_serve(int argc, char **argv);
