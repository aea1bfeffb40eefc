#include "core/edge/routes.h"

#include <string.h>

#include "core/edge/api.h"

static const struct route routes[] = {
    {"/v1/chat/completions", "/v1/chat/completions", true, false, ACCESS_KEY, api_chat},
    {"/v1/completions", "/v1/completions", true, false, ACCESS_KEY, api_completions},
    {"/v1/models", "/v1/models", false, false, ACCESS_KEY, api_models},
    {"/v1/models/", "/v1/models/{id}", false, true, ACCESS_KEY, api_model},
    {"/health", "/health", false, false, ACCESS_OPEN, api_health},
    {"/ready", "/ready", false, false, ACCESS_OPEN, api_ready},
    {"/version", "/version", false, false, ACCESS_OPEN, api_version},
    {"/metrics", "/metrics", false, false, ACCESS_OPEN, api_metrics},
    {"/metrics/", "/metrics", false, false, ACCESS_OPEN, api_metrics},
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const struct route *r = &routes[i];
        size_t n = strlen(r->path);
        if (r->prefix ? strncmp(path, r->path, n) == 0 && path[n] : strcmp(path, r->path) == 0)
            return r;
    }
    return NULL;
}

uint32_t route_index(const struct route *r)
{
    return r ? (uint32_t)(r - routes) : routes_count();
}

uint32_t routes_count(void)
{
    return ARRAY_LEN(routes);
}

const struct route *route_at(uint32_t index)
{
    return &routes[index];
}

const char *route_allow(const struct route *r)
{
    return r->post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
}

bool route_allows(const struct route *r, const char *method)
{
    if (r->post)
        return strcmp(method, "POST") == 0;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

bool route_guarded(const struct route *r, const char *path)
{
    return r ? r->access == ACCESS_KEY : strncmp(path, "/v1", 3) == 0;
}
