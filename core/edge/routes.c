#include "core/edge/routes.h"

#include <string.h>

#include "core/edge/api.h"
#include "core/edge/respond.h"

static const struct route routes[] = {
    {"/v1/chat/completions", "/v1/chat/completions", ROUTE_POST, false, ACCESS_KEY, api_chat},
    {"/v1/completions", "/v1/completions", ROUTE_POST, false, ACCESS_KEY, api_completions},
    {"/invocations", "/invocations", ROUTE_POST, false, ACCESS_KEY, api_invocations},
    {"/v1/models", "/v1/models", ROUTE_GET, false, ACCESS_ANY_KEY, api_models},
    {"/v1/models/", "/v1/models/{id}", ROUTE_GET, true, ACCESS_ANY_KEY, api_model},
    {"/tokenize", "/tokenize", ROUTE_POST, false, ACCESS_KEY, api_tokenize},
    {"/detokenize", "/detokenize", ROUTE_POST, false, ACCESS_KEY, api_detokenize},
    {"/openapi.json", "/openapi.json", ROUTE_GET, false, ACCESS_OPEN, api_openapi},
    {"/livez", "/livez", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/ping", "/ping", ROUTE_GET | ROUTE_POST, false, ACCESS_OPEN, respond_answer},
    {"/load", "/load", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/is_sleeping", "/is_sleeping", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/health", "/health", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/ready", "/ready", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/version", "/version", ROUTE_GET, false, ACCESS_OPEN, respond_answer},
    {"/metrics", "/metrics", ROUTE_GET, false, ACCESS_METRICS, api_metrics},
    {"/metrics/", "/metrics", ROUTE_GET, false, ACCESS_METRICS, api_metrics},
    {"/reset_prefix_cache", "/reset_prefix_cache", ROUTE_POST, false, ACCESS_ADMIN,
     api_reset_prefix_cache},
    {"/", "/", ROUTE_GET, false, ACCESS_PAGE, api_page},
    {"/ui/", "/ui/{file}", ROUTE_GET, true, ACCESS_PAGE, api_page},
    {"/admin/v1/session", "/admin/v1/session", ROUTE_GET | ROUTE_POST | ROUTE_DELETE, false,
     ACCESS_PAGE, admin_session},
    {"/admin/v1/snapshot", "/admin/v1/snapshot", ROUTE_GET, false, ACCESS_ADMIN, admin_snapshot},
    {"/admin/v1/stream", "/admin/v1/stream", ROUTE_GET, false, ACCESS_ADMIN, admin_stream},
    {"/admin/v1/history", "/admin/v1/history", ROUTE_GET, false, ACCESS_ADMIN, admin_history},
    {"/admin/v1/log", "/admin/v1/log", ROUTE_GET, false, ACCESS_ADMIN, admin_log},
    {"/admin/v1/log/", "/admin/v1/log/{id}", ROUTE_GET, true, ACCESS_ADMIN, admin_log_entry},
    {"/admin/v1/kv", "/admin/v1/kv", ROUTE_GET, false, ACCESS_ADMIN, admin_kv},
    {"/admin/v1/status", "/admin/v1/status", ROUTE_GET, false, ACCESS_ADMIN, admin_status},
    {"/admin/v1/workers", "/admin/v1/workers", ROUTE_GET, false, ACCESS_ADMIN, admin_workers},
    {"/admin/v1/config", "/admin/v1/config", ROUTE_GET, false, ACCESS_ADMIN, admin_config},
    {"/admin/v1/config/options", "/admin/v1/config/options", ROUTE_GET, false, ACCESS_ADMIN,
     admin_config_options},
    {"/admin/v1/keys", "/admin/v1/keys", ROUTE_GET, false, ACCESS_ADMIN, admin_keys},
    {"/admin/v1/events", "/admin/v1/events", ROUTE_GET, false, ACCESS_ADMIN, admin_events},
    {"/admin/v1/requests", "/admin/v1/requests", ROUTE_GET, false, ACCESS_ADMIN, admin_requests},
    {"/admin/v1/requests/", "/admin/v1/requests/{id}", ROUTE_GET | ROUTE_DELETE, true, ACCESS_ADMIN,
     admin_request},
    {"/admin/v1/decisions", "/admin/v1/decisions", ROUTE_GET, false, ACCESS_ADMIN, admin_decisions},
    {"/admin/v1/drain", "/admin/v1/drain", ROUTE_POST, false, ACCESS_ADMIN, admin_drain},
    {"/admin/v1/undrain", "/admin/v1/undrain", ROUTE_POST, false, ACCESS_ADMIN, admin_undrain},
    {"/admin/v1/reload", "/admin/v1/reload", ROUTE_GET | ROUTE_POST, false, ACCESS_ADMIN,
     admin_reload},
    {"/admin/v1/log_level", "/admin/v1/log_level", ROUTE_POST, false, ACCESS_ADMIN,
     admin_log_level},
};

/* Of the routes whose handler is respond_answer. */
static const struct {
    const char *path;
    route_answer *answer;
} answers[] = {
    {"/livez", api_live},      {"/ping", api_health},
    {"/load", api_load},       {"/is_sleeping", api_is_sleeping},
    {"/health", api_health},   {"/ready", api_ready},
    {"/version", api_version},
};

route_answer *route_answer_of(const struct route *r)
{
    for (size_t i = 0; r->handle == respond_answer && i < ARRAY_LEN(answers); i++)
        if (strcmp(r->path, answers[i].path) == 0)
            return answers[i].answer;
    return NULL;
}

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
    static const char *const texts[] = {
        [ROUTE_GET] = "GET, HEAD, OPTIONS",
        [ROUTE_POST] = "POST, OPTIONS",
        [ROUTE_GET | ROUTE_POST] = "GET, HEAD, POST, OPTIONS",
        [ROUTE_GET | ROUTE_DELETE] = "GET, HEAD, DELETE, OPTIONS",
        [ROUTE_GET | ROUTE_POST | ROUTE_DELETE] = "GET, HEAD, POST, DELETE, OPTIONS",
    };
    BUG_ON(r->methods >= ARRAY_LEN(texts) || !texts[r->methods]);
    return texts[r->methods];
}

unsigned route_method(const char *method)
{
    static const struct {
        const char *name;
        enum route_method bit;
    } methods[] = {{MHD_HTTP_METHOD_GET, ROUTE_GET},
                   {MHD_HTTP_METHOD_HEAD, ROUTE_GET},
                   {MHD_HTTP_METHOD_POST, ROUTE_POST},
                   {MHD_HTTP_METHOD_DELETE, ROUTE_DELETE}};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++)
        if (strcmp(method, methods[i].name) == 0)
            return methods[i].bit;
    return 0;
}

/* Whether path is the folder or something in it. */
static bool within(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

enum route_access route_access(const struct route *r, const char *path)
{
    if (r)
        return r->access;
    return within(path, "/admin") ? ACCESS_ADMIN : within(path, "/v1") ? ACCESS_KEY : ACCESS_OPEN;
}
