#include "core/edge/openapi.h"

const char openapi_document[] =
#include "core/edge/openapi_json.h"
    ;
