/* view_overview.js - the first look: how it is and what to do, how it was in the last minutes, who
 * does the work. */
import { get } from "./api.js";
import { chart } from "./chart.js";
import { el, put, setAttr, setText } from "./dom.js";
import { count, digits, ratio, seconds, share, span, stateName, when } from "./format.js";
import { gpuCards } from "./gpu_cards.js";
import { workersTable } from "./workers_table.js";

export const title = "Overview";

const SPANS = {
    "15m": { label: "15 min", s: 900, every_ms: 1900 },
    "6h": { label: "6 h", s: 21600, every_ms: 15000 },
};

const SHORTEST_S = 120;

const plain = (v) => String(Number(v.toFixed(2)));
const short = (v) => (v >= 1 ? plain(v) + " s" : plain(v * 1000) + " ms");
const rate = (v) => digits(v) + "\u00a0tok/s";
const big = (v) => (v >= 10000 ? digits(v / 1000) + " k" : v >= 1000 ? count(v) : plain(v));

const FIGURES = [
    {
        title: "Time to first token",
        series: [{ label: "p95", column: "ttft_p95", class: "first" },
            { label: "p50", column: "ttft_p50", class: "second" }],
        format: seconds,
        scale: short,
        metric: "vllm:time_to_first_token_seconds",
    },
    {
        title: "Time between tokens",
        series: [{ label: "p95", column: "itl_p95", class: "first" },
            { label: "p50", column: "itl_p50", class: "second" }],
        format: seconds,
        scale: short,
        metric: "vllm:inter_token_latency_seconds",
    },
    {
        title: "Tokens",
        series: [{ label: "generated", column: "tok_s", class: "first" },
            { label: "prompts", column: "prompt_tok_s", class: "second" }],
        format: rate,
        scale: big,
        metric: "vllm:generation_tokens_total, vllm:prompt_tokens_total",
    },
    {
        title: "Queue",
        series: [{ label: "waiting", column: "waiting", class: "first" },
            { label: "running", column: "running", class: "second" }],
        format: count,
        scale: big,
        metric: "vllm:num_requests_waiting, vllm:num_requests_running",
    },
    {
        title: "KV cache",
        series: [{ label: "used", column: "kv", class: "first" },
            { label: "prompt tokens found there", column: "hit_rate", class: "second" }],
        format: share,
        scale: (v) => v * 100 + " %",
        metric: "vllm:kv_cache_usage_perc, vllm:prefix_cache_hits_total",
        full: 1,
    },
    {
        title: "Requests",
        series: [{ label: "ended", column: "req_s", class: "first" },
            { label: "failed", column: "failed_s", class: "bad", some: true }],
        format: (v) => digits(v) + "\u00a0/s",
        scale: big,
        metric: "vllm:request_success_total, llmd_edge_requests_total",
    },
];

function verdict() {
    const name = el("strong", {});
    const reason = el("span", {});
    const since = el("span", { class: "since" });
    const advice = el("p", { class: "advice" });
    const problems = el("ul", { class: "problems" });
    const node = el("section", { class: "verdict", "aria-label": "Verdict" },
        el("p", { class: "line" }, name, reason, since), advice, problems);
    return {
        node,
        update(s) {
            const v = s.verdict;
            setAttr(node, "data-tone", v.level);
            setText(name, stateName(v.state));
            setText(reason, v.reason);
            setText(since, v.since ? `since ${when(v.since)}, ${span(s.time - v.since)}` : "");
            setText(advice, v.advice);
            advice.hidden = !v.advice;
            const list = (s.problems || []).filter((p) => p.text !== v.reason);
            problems.hidden = !list.length;
            put(problems, list.map((p) => el("li", { "data-tone": p.level },
                el("strong", {}, p.text), p.advice ? " " + p.advice : null,
                p.since ? el("span", { class: "since" }, " since " + when(p.since)) : null)));
        },
    };
}

function chooser(now, choose) {
    return el("fieldset", { class: "choice" }, el("legend", { class: "hidden-text" }, "Time shown"),
        Object.entries(SPANS).map(([name, s]) => el("label", {},
            el("input", { type: "radio", name: "span", value: name, checked: name === now,
                change: () => choose(name) }),
            el("span", {}, s.label))));
}

/* The history of one span: whole at first, afterwards what is newer than what is here. */
function history(paint) {
    let name = "15m";
    let data = { t: [] };
    let asked = 0;
    const stop = new AbortController();

    function merge(next) {
        const keep = data.process === next.process ? data.t.findIndex((t) => t >= next.t[0]) : 0;
        if (keep === 0 || !next.t.length || !data.t.length) {
            if (next.t.length || data.process !== next.process)
                data = next;
            return;
        }
        const from = next.t[next.t.length - 1] - SPANS[name].s;
        const first = data.t.findIndex((t) => t > from);
        for (const c of Object.keys(next))
            if (Array.isArray(next[c]))
                data[c] = data[c].slice(first, keep < 0 ? undefined : keep).concat(next[c]);
    }

    async function fetch() {
        asked = Date.now();
        const wanted = name;
        const last = data.t[data.t.length - 1];
        try {
            const next = await get(`history?span=${wanted}${last ? "&after=" + last : ""}`, stop.signal);
            if (wanted !== name)
                return;
            merge(next);
            paint(data, SPANS[name].s);
        } catch {
            /* the banner says that the server is away; the drawing stays */
        }
    }

    return {
        choose(next) {
            name = next;
            data = { t: [] };
            fetch();
        },
        update(s) {
            if ((data.process && data.process !== s.process) || Date.now() - asked >= SPANS[name].every_ms) {
                if (data.process !== s.process)
                    data = { t: [] };
                fetch();
            }
        },
        end: () => stop.abort(),
    };
}

function facts(s) {
    const n = s.server;
    const list = [
        ["Up", span(s.uptime_seconds)],
        ["Version", s.version],
        ["Requests since start", count(n.requests)],
        ["Failed", `${count(n.failed)} (${share(ratio(n.failed, n.requests))})`],
        ["Connections", `${count(n.connections)} of ${count(n.max_connections)}`],
        ["Request log", stateName(n.request_log)],
    ];
    return list.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v)));
}

export function mount(node, { may }) {
    const line = verdict();
    const charts = FIGURES.map((f) => chart(f));
    const shown = history((data, span_s) => {
        const to = data.t.length ? data.t[data.t.length - 1] : Date.now() / 1000;
        /* A server that started a moment ago has no long past: the axis begins with it. */
        const from = Math.max(to - span_s, Math.min(data.t[0] || to, to - SHORTEST_S));
        for (const c of charts)
            c.update(data, from, to);
    });
    const workers = workersTable(may);
    const gpus = gpuCards();
    const about = el("dl", { class: "facts" });
    const waits = el("p", { class: "empty" }, "Waiting for the first numbers.");
    const body = el("div", { class: "view", hidden: true },
        line.node,
        el("section", { "aria-label": "Figures" },
            el("div", { class: "head" }, el("h2", {}, "Figures"),
                chooser("15m", (name) => shown.choose(name))),
            el("div", { class: "charts" }, charts.map((c) => c.node))),
        el("section", {}, el("h2", {}, "Workers"), workers.node),
        gpus.node,
        el("section", {}, el("h2", {}, "Server"), about));
    put(node, el("h1", { class: "hidden-text", tabindex: -1 }, title), waits, body);
    return {
        update(s) {
            waits.hidden = true;
            body.hidden = false;
            line.update(s);
            shown.update(s);
            FIGURES.forEach((f, i) => charts[i].now(f.series.map((one) => s.rates[one.column])));
            workers.update(s);
            gpus.update(s.gpus || []);
            put(about, facts(s));
        },
        unmount: () => shown.end(),
    };
}
