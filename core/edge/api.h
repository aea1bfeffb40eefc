/* api.h - the handlers of the routes: the request is complete and admitted. */
#pragma once
#include "core/edge/answer.h"
#include "core/edge/edge_int.h"

enum MHD_Result api_chat(struct exchange *ex);
enum MHD_Result api_completions(struct exchange *ex);
enum MHD_Result api_invocations(struct exchange *ex);
enum MHD_Result api_tokenize(struct exchange *ex);
enum MHD_Result api_detokenize(struct exchange *ex);
enum MHD_Result api_models(struct exchange *ex);
enum MHD_Result api_model(struct exchange *ex);
enum MHD_Result api_metrics(struct exchange *ex);
enum MHD_Result api_openapi(struct exchange *ex);
enum MHD_Result api_reset_prefix_cache(struct exchange *ex);

enum MHD_Result api_page(struct exchange *ex);

enum MHD_Result admin_snapshot(struct exchange *ex);
enum MHD_Result admin_stream(struct exchange *ex);
enum MHD_Result admin_history(struct exchange *ex);
enum MHD_Result admin_log(struct exchange *ex);
enum MHD_Result admin_log_entry(struct exchange *ex);
enum MHD_Result admin_kv(struct exchange *ex);
enum MHD_Result admin_session(struct exchange *ex);
enum MHD_Result admin_status(struct exchange *ex);
enum MHD_Result admin_workers(struct exchange *ex);
enum MHD_Result admin_config(struct exchange *ex);
enum MHD_Result admin_config_options(struct exchange *ex);
enum MHD_Result admin_keys(struct exchange *ex);
enum MHD_Result admin_events(struct exchange *ex);
enum MHD_Result admin_requests(struct exchange *ex);
enum MHD_Result admin_request(struct exchange *ex);
enum MHD_Result admin_decisions(struct exchange *ex);
enum MHD_Result admin_drain(struct exchange *ex);
enum MHD_Result admin_undrain(struct exchange *ex);
enum MHD_Result admin_reload(struct exchange *ex);
enum MHD_Result admin_log_level(struct exchange *ex);

/* Answers (answer.h), by what a loop serves now. On failure the reply is the error. */
MUST_CHECK int api_health(struct loop *l, const struct catalog *c, struct open_answer *out,
                          struct err *e);
MUST_CHECK int api_ready(struct loop *l, const struct catalog *c, struct open_answer *out,
                         struct err *e);
MUST_CHECK int api_version(struct loop *l, const struct catalog *c, struct open_answer *out,
                           struct err *e);
MUST_CHECK int api_live(struct loop *l, const struct catalog *c, struct open_answer *out,
                        struct err *e);
MUST_CHECK int api_load(struct loop *l, const struct catalog *c, struct open_answer *out,
                        struct err *e);
MUST_CHECK int api_is_sleeping(struct loop *l, const struct catalog *c, struct open_answer *out,
                               struct err *e);

/* Whether all that is served is ready, or at least waited for (router_model_ready). */
bool api_all_ready(const struct edge *edge, const struct catalog *c);
