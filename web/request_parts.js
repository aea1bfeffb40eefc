/* request_parts.js - what several views say of a request, and the parts of its time as the server
 * names them (core/edge/PAGE.md). */
import { el } from "./dom.js";

export const PARTS = [
    ["edge", "Reading, template, tokens"],
    ["queue", "Waiting for its turn"],
    ["prefill", "Its own prompt"],
    ["prefill beside others", "Prompts of others beside its own"],
    ["decode", "Its own tokens"],
    ["batch", "Others in the same batch"],
    ["prefill of others", "Prompts of others between its tokens"],
    ["stall", "Its worker stalled"],
    ["slow client", "Its client read slowly"],
    ["preemption", "KV blocks taken away"],
    ["migration", "Its worker was lost"],
];

export function pagePath(id) {
    return "#/requests/" + encodeURIComponent(id);
}

export function idLink(id) {
    return el("a", { href: pagePath(id), class: "mono id", title: id }, id);
}

export function statusTone(status) {
    return status >= 500 ? "bad" : status >= 400 ? "warn" : null;
}
