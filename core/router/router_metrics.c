#include "core/router/router_metrics.h"

static const double decision_bounds[] = {1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5,
                                         1e-4, 2e-4, 5e-4, 1e-3, 1e-2};

static void register_waits(struct router_metrics *rm, struct metrics *m, const char *model,
                           const char *labels)
{
    static const char *const waits[N_ROUTE_WAITS] = {[WAIT_WORKER] = "no_worker",
                                                     [WAIT_SEQS] = "max_num_seqs",
                                                     [WAIT_KV] = "kv_cache",
                                                     [WAIT_BACKLOG] = "backlog",
                                                     [WAIT_MOVE] = "lost_worker"};
    rm->waiting_for_room = metrics_gauge_with(m, "vllm:num_requests_waiting_by_reason",
                                              "What they wait for.", labels, "reason", "capacity");
    metrics_gauge_with(m, "vllm:num_requests_waiting_by_reason", "", labels, "reason", "deferred");
    for (int i = 0; i < N_ROUTE_WAITS; i++)
        rm->waits[i] = metrics_gauge_with(
            m, "llmd_router_waiting",
            "Requests that no worker has, by what the one whose turn it is waits for.", model,
            "reason", waits[i]);
}

int router_metrics_init(struct router_metrics *rm, struct metrics *m, const char *model_name)
{
    struct buf model = {0}, labels = {0};
    *rm = (struct router_metrics){.waiting = NULL};
    if (!m)
        return 0;
    metrics_label(&model, "model_name", model_name);
    buf_addf(&labels, "%s,engine=\"router\"", buf_str(&model));
    rm->waiting = metrics_gauge(m, "vllm:num_requests_waiting",
                                "Sequences that wait to be computed.", buf_str(&labels));
    register_waits(rm, m, buf_str(&model), buf_str(&labels));
    rm->index_blocks =
        metrics_gauge(m, "llmd_router_index_blocks",
                      "KV blocks of which the router knows who holds them.", buf_str(&model));
    for (int reason = 0; reason < REASON_COUNT; reason++) {
        buf_clear(&labels);
        buf_addf(&labels, "%s,reason=\"%s\"", buf_str(&model),
                 route_reason_name((enum route_reason)reason));
        rm->decisions[reason] =
            metrics_counter(m, "llmd_router_decisions_total",
                            "Requests bound to a worker, by what decided.", buf_str(&labels));
    }
    rm->migrations = metrics_counter(m, "llmd_router_migrations_total",
                                     "Times a request went on at another worker.", buf_str(&model));
    rm->lost_requests =
        metrics_counter(m, "llmd_router_lost_requests_total",
                        "Requests that failed because no worker was left.", buf_str(&model));
    rm->decision_time = metrics_histogram(
        m, "llmd_router_decision_seconds", "Time of one decision, under the router's lock.",
        buf_str(&model), decision_bounds, ARRAY_LEN(decision_bounds));
    const bool failed = model.failed || labels.failed;
    buf_fini(&model);
    buf_fini(&labels);
    return failed ? -LLMD_ENOMEM : 0;
}
