/* view_keys.js - who may use the server, what each may use and has used. */
import { get } from "./api.js";
import { fault } from "./dialog.js";
import { el, put } from "./dom.js";
import { count, DASH, stateName, when } from "./format.js";
import { table } from "./table.js";

export const title = "Keys";

const EVERY_MS = 2000;

function left(amount, limit) {
    return limit === null || !limit ? "no limit" : `${count(amount)} of ${count(limit)}`;
}

function nearlyGone(amount, limit) {
    return limit && amount < limit * 0.1 ? "warn" : null;
}

const columns = [
    { label: "Key", class: "wide", text: (k) => k.name },
    { label: "May", text: (k) => stateName(k.scope) },
    { label: "Models", text: (k) => (k.models.length ? k.models.join(", ") : "all") },
    { label: "Expires", text: (k) => (k.expires ? when(k.expires) : "never"),
        tone: (k) => (k.expires && Date.parse(k.expires) < Date.now() ? "bad" : null) },
    { label: "Running", num: true,
        text: (k) => (k.max_concurrent ? `${count(k.running)} of ${count(k.max_concurrent)}` : count(k.running)) },
    { label: "Requests left", unit: "per min", num: true,
        text: (k) => left(k.requests_left, k.requests_per_minute),
        tone: (k) => nearlyGone(k.requests_left, k.requests_per_minute) },
    { label: "Tokens left", unit: "per min", num: true,
        text: (k) => left(k.tokens_left, k.tokens_per_minute),
        tone: (k) => nearlyGone(k.tokens_left, k.tokens_per_minute) },
    { label: "Requests", num: true, text: (k) => count(k.requests) },
    { label: "Prompt", unit: "tok", num: true, text: (k) => count(k.prompt_tokens) },
    { label: "Output", unit: "tok", num: true, text: (k) => count(k.output_tokens) },
    { label: "Priority", num: true, text: (k) => (k.priority === 0 ? DASH : k.priority) },
];

export function mount(node) {
    const keys = table({
        label: title,
        columns,
        key: (k) => k.name,
        empty: "No keys: who reaches the server may use it. It listens on this host only. llmd key makes one.",
    });
    const body = el("div", {}, keys.node);
    const stop = new AbortController();
    let asked = 0;
    async function refresh() {
        asked = Date.now();
        try {
            keys.update((await get("keys", stop.signal)).keys);
            if (!keys.node.isConnected)
                put(body, keys.node);
        } catch (e) {
            if (e.name !== "AbortError" && e.status)
                fault(body, e);
        }
    }
    put(node, el("div", { class: "head" }, el("h1", { tabindex: -1 }, title),
        el("p", {}, "Use since the server was started.")), body);
    refresh();
    return {
        update: () => Date.now() - asked >= EVERY_MS && refresh(),
        unmount: () => stop.abort(),
    };
}
