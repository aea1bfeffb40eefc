/* jansson.h - the one name of Jansson's that core/model's headers use, for a build without the library:
 * nothing that tests/gpu/run.sh links reads JSON. */
#pragma once
typedef struct json_t json_t;
