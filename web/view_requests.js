/* view_requests.js - requests that live, with a way to end them; a search of those that ended. */
import { get, remove } from "./api.js";
import { attempt, confirm, fault, toast } from "./dialog.js";
import { el, put, setText } from "./dom.js";
import { count, DASH, ms, plural, us, when } from "./format.js";
import { idLink, statusTone } from "./request_parts.js";
import { table } from "./table.js";

export const title = "Requests";

const tokens = [
    { label: "Prompt", unit: "tok", num: true, text: (r) => count(r.prompt_tokens) },
    { label: "Cached", unit: "tok", num: true, text: (r) => count(r.cached_tokens) },
    { label: "Output", unit: "tok", num: true, text: (r) => count(r.output_tokens) },
];

async function cancel(row) {
    const yes = await confirm({
        title: "Cancel this request?",
        body: [el("p", { class: "mono" }, row.id),
            el("p", {}, "Its client gets an error; what was generated so far is lost.")],
        action: "Cancel request",
        danger: true,
    });
    if (!yes)
        return;
    await remove("requests/" + encodeURIComponent(row.id));
    toast("Cancelled " + row.id);
}

function liveTable(may) {
    const columns = [
        { label: "Request", class: "wide", node: (r) => idLink(r.id) },
        { label: "Model", text: (r) => r.model },
        { label: "Key", text: (r) => r.key || DASH },
        { label: "Worker", num: true, text: (r) => (r.worker === null ? "waiting" : r.worker) },
        ...tokens,
        { label: "First token", num: true, text: (r) => ms(r.first_token_ms) },
        { label: "Age", num: true, text: (r) => ms(r.age_ms) },
        { label: "Waits for", text: (r) => (r.waits_for ? "a " + r.waits_for : DASH) },
    ];
    if (may)
        columns.push({
            label: "",
            class: "action",
            node: (r) => {
                const button = el("button", {
                    class: "button small",
                    type: "button",
                    "aria-label": "Cancel " + r.id,
                    click: () => attempt(button, () => cancel(r)),
                }, "Cancel");
                return button;
            },
        });
    return table({
        label: "Requests being answered",
        columns,
        key: (r) => r.id,
        empty: "No traffic: nothing is being answered now.",
    });
}

function endedTable() {
    return table({
        label: "Requests found",
        columns: [
            { label: "Request", class: "wide", node: (r) => idLink(r.id) },
            { label: "Arrived", text: (r) => when(r.time_us / 1e6) },
            { label: "Model", text: (r) => r.model || DASH },
            { label: "Key", text: (r) => r.key || DASH },
            { label: "Worker", num: true, text: (r) => (r.worker === null ? DASH : r.worker) },
            { label: "Status", num: true, text: (r) => r.status, tone: (r) => statusTone(r.status) },
            { label: "End", text: (r) => r.finish || "refused" },
            ...tokens,
            { label: "First token", num: true, text: (r) => us(r.first_token_us) },
            { label: "Total", num: true, text: (r) => us(r.total_us) },
        ],
        key: (r) => r.id + r.time_us,
        empty: "Nothing in the log matches.",
    });
}

function field(name, label, input) {
    input.setAttribute("id", "f-" + name);
    input.setAttribute("name", name);
    return el("div", { class: "field" }, el("label", { for: "f-" + name }, label), input);
}

const SPANS_S = { "15m": 900, "1h": 3600, "6h": 21600, "1d": 86400, "1w": 604800 };

/* The address says how long ago; the server wants the moment. */
function logQuery(query) {
    const out = new URLSearchParams(query);
    const last = SPANS_S[query.get("last")];
    out.delete("last");
    out.set("since", last ? Math.floor(Date.now() / 1000 - last) : 0);
    out.set("limit", 50);
    return out;
}

function searchForm(query, submit) {
    const text = (name, label, attrs) =>
        field(name, label, el("input", { class: "input", value: query.get(name), ...attrs }));
    const choice = (name, label, options) =>
        field(name, label, el("select", { class: "select" }, options.map(([value, shown]) =>
            el("option", { value, selected: (query.get(name) || "") === value }, shown))));
    return el("form", { class: "filters", submit, role: "search", "aria-label": "Request log" },
        text("id", "Request id", { placeholder: "chatcmpl-…", spellcheck: "false" }),
        text("key", "Key"),
        text("model", "Model"),
        text("worker", "Worker", { inputmode: "numeric", pattern: "[0-9]*" }),
        choice("status", "Status", [["", "Any"], ["2xx", "2xx"], ["4xx", "4xx"], ["5xx", "5xx"],
            ["429", "429"], ["499", "499"], ["503", "503"]]),
        choice("finish", "End", [["", "Any"], ["stop", "stop"], ["length", "length"],
            ["abort", "abort"], ["error", "error"]]),
        text("slow_ms", "At least, ms", { inputmode: "numeric", pattern: "[0-9]*" }),
        choice("last", "In the last", [["15m", "15 min"], ["1h", "1 h"], ["6h", "6 h"],
            ["1d", "day"], ["1w", "week"], ["all", "Any time"]]),
        el("button", { class: "button primary" }, "Search"));
}

export function mount(node, { query, may }) {
    const running = liveTable(may);
    const found = endedTable();
    const total = el("p", { class: "muted" });
    const result = el("div", {});
    const stop = new AbortController();
    let rows = [];

    async function refresh() {
        try {
            const answer = await get("requests", stop.signal);
            rows = answer.requests;
            running.update(rows);
            setText(total, answer.total > rows.length
                ? `The oldest ${count(rows.length)} of ${count(answer.total)}`
                : plural(answer.total, "request"));
        } catch (e) {
            if (e.name !== "AbortError" && e.status)
                fault(total, e);
        }
    }

    async function search() {
        try {
            const answer = await get("log?" + logQuery(query), stop.signal);
            found.update(answer.rows);
            put(result, found.node, answer.rows.length >= answer.limit
                ? el("p", { class: "muted" }, `The latest ${count(answer.limit)}`) : null);
        } catch (e) {
            if (e.name !== "AbortError")
                fault(result, e);
        }
    }

    function submit(e) {
        e.preventDefault();
        const next = new URLSearchParams();
        for (const [name, value] of new FormData(e.target))
            if (value.trim())
                next.set(name, value.trim());
        query = next;
        /* The address holds the search; setting it this way keeps the focus where it is. */
        history.replaceState(null, "", "#/requests?" + next);
        search();
    }

    if (![...query.keys()].length)
        query.set("last", "1h");
    put(node,
        el("div", { class: "head" }, el("h1", { tabindex: -1 }, title)),
        el("section", {}, el("div", { class: "head" }, el("h2", {}, "Being answered"), total),
            running.node),
        el("section", {}, el("h2", {}, "Log"), searchForm(query, submit), result));
    refresh();
    search();
    return {
        update: refresh,
        unmount: () => stop.abort(),
    };
}
