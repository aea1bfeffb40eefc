/* openapi.h - the document of /openapi.json: core/edge/openapi.json, with the version put in. */
#pragma once

extern const char openapi_document[];
