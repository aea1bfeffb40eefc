/* view_request.js - the story of one request: what `llmd explain` says, drawn. */
import { get } from "./api.js";
import { candidatesTable, decisionLine } from "./decisions.js";
import { fault } from "./dialog.js";
import { el, put, setAttr, svg } from "./dom.js";
import { count, DASH, plural, share, us, when } from "./format.js";
import { PARTS, statusTone } from "./request_parts.js";

export const title = "Request";

function pairs(list) {
    return el("dl", { class: "facts" }, list.filter(Boolean).map(([k, v, tone]) =>
        el("div", {}, el("dt", {}, k), el("dd", { "data-tone": tone || null }, v))));
}

function head(r) {
    const cached = r.cached_tokens > 0 ? ` (${count(r.cached_tokens)} cached)` : "";
    const text = (v) => (v === null || v === undefined || v === "" ? DASH : v);
    return pairs([
        ["Arrived", when(r.time_us / 1e6)],
        ["Status", r.live ? "Running" : text(r.status), statusTone(r.status)],
        ["End", r.live ? DASH : r.finish || "refused"],
        ["Model", text(r.model)],
        ["Worker", text(r.worker)],
        ["Prompt", count(r.prompt_tokens) + " tok" + cached],
        ["Output", count(r.output_tokens) + " tok"],
        ["First token", us(r.first_token_us)],
        ["Total", us(r.total_us)],
        ["Key", text(r.key)],
        ["Client", text(r.client)],
        ["Endpoint", text(r.endpoint)],
        r.trace ? ["Trace", el("span", { class: "mono" }, r.trace)] : null,
    ]);
}

/* Where the time went: a bar of all, and a line for each part. */
function partsSection(story) {
    const known = PARTS.map(([name, label]) => ({ name, label, us: (story.parts_us || {})[name] || 0 }))
        .filter((p) => p.us > 0);
    const all = known.reduce((a, p) => a + p.us, 0);
    if (!all)
        return null;
    let x = 0;
    const bar = svg("svg", { class: "parts", viewBox: "0 0 1000 16", preserveAspectRatio: "none",
        "aria-hidden": "true" }, known.map((p) => {
        const width = (p.us / all) * 1000;
        const made = svg("rect", { x, y: 0, width: Math.max(1, width - 2), height: 16,
            class: "part" + (p.name === story.dominated ? " most" : "") });
        x += width;
        return made;
    }));
    return el("section", {}, el("h2", {}, "Where the time went"), bar,
        el("table", { class: "plain narrow" },
            el("tbody", {}, known.map((p) => el("tr", { class: p.name === story.dominated ? "most" : null },
                el("th", { scope: "row" }, p.label),
                el("td", { class: "num" }, us(p.us)),
                el("td", { class: "num" }, share(p.us / all)))))));
}

/* [[at_us, text, indented]] */
function moments(r) {
    const t = r.timeline || {};
    const out = [[0, "Arrived"]];
    if (r.edge_us >= 0 && r.edge_us !== null)
        out.push([r.edge_us, "Read, checked, tokenized: to the router"]);
    if (r.queue_us >= 0 && r.queue_us !== null)
        out.push([r.edge_us + r.queue_us, `First rows computed, after ${us(r.queue_us)} of waiting`]);
    for (const c of t.chunks || []) {
        const steps = c.steps > 1 ? ` and ${plural(c.steps, "step")}` : "";
        const others = c.step_rows > c.rows ? `, beside ${plural(c.step_rows - c.rows, "row")} of others` : "";
        out.push([c.at_us, `Prefill of ${plural(c.rows, "row")} in ${us(c.us)}${steps}${others}`, true]);
    }
    if (r.first_token_us >= 0 && r.first_token_us !== null)
        out.push([r.first_token_us, "First token"]);
    if (t.last_token_us >= 0)
        out.push([t.last_token_us, "Last token"]);
    if (!r.live && r.total_us >= 0 && r.total_us !== null)
        out.push([r.total_us, "Last byte"]);
    return out;
}

function timeSection(r) {
    return el("section", {}, el("h2", {}, "Time line"),
        el("ol", { class: "timeline" }, moments(r).map(([at, text, inner]) =>
            el("li", { class: inner ? "inner" : null }, el("span", { class: "num" }, us(at)),
                el("span", {}, text)))));
}

function gapText(g) {
    const rows = g.prefill_rows > 0 ? `, ${plural(g.prefill_rows, "prompt row")} of others` : "";
    const other = g.other ? `, most of ${g.other}` : "";
    return `worker ${g.worker}: ${plural(g.decodes, "decode")}${rows}${other}`;
}

function gapsSection(r) {
    const gaps = (r.timeline || {}).gaps || [];
    if (!gaps.length)
        return null;
    const columns = ["At", "Gap", "Before token", "Cause", "In that step"];
    return el("section", {}, el("h2", {}, "Slowest gaps between tokens"),
        el("table", { class: "plain" },
            el("thead", {}, el("tr", {}, columns.map((c, i) =>
                el("th", { scope: "col", class: i < 3 ? "num" : null }, c)))),
            el("tbody", {}, gaps.map((g) => el("tr", {},
                el("td", { class: "num" }, us(g.at_us)),
                el("td", { class: "num" }, us(g.us)),
                el("td", { class: "num" }, count(g.tokens)),
                el("td", {}, g.cause),
                el("td", {}, gapText(g)))))));
}

function routeSection(r) {
    const records = r.route || [];
    if (!records.length)
        return null;
    const events = (record, name, what) => (record[name] || []).map((e) =>
        el("p", {}, `Worker ${e.worker} ${what} after ${count(e.output_tokens)} output tokens: ${e.why}`));
    return el("section", {}, el("h2", {}, "Route"),
        records.map((record, i) => el("div", { class: "card route" },
            records.length > 1 ? el("h3", {}, `Prompt ${i}`) : null,
            (record.decisions || []).map((d) => [decisionLine(d), candidatesTable(d)]),
            events(record, "refusals", "would not have it"),
            events(record, "migrations", "lost it"))));
}

function page(story) {
    const r = story.request;
    return [
        head(r),
        r.error ? el("p", { class: "fault" }, r.error) : null,
        el("p", { class: "sentence" }, story.verdict),
        partsSection(story),
        el("div", { class: "two" }, timeSection(r), gapsSection(r)),
        routeSection(r),
    ];
}

export function mount(node, { rest }) {
    const body = el("div", { class: "view" }, el("p", { class: "muted" }, "Reading the log"));
    const stop = new AbortController();
    let again = 0;
    put(node,
        el("div", { class: "head" },
            el("div", {}, el("p", {}, el("a", { href: "#/requests" }, "Requests")),
                el("h1", { tabindex: -1, class: "mono-title" }, rest))),
        body);

    async function show() {
        try {
            const story = await get("log/" + encodeURIComponent(rest), stop.signal);
            put(body, page(story));
            setAttr(body, "data-live", story.request.live ? "" : null);
            if (story.request.live)
                again = setTimeout(show, 1000);
        } catch (e) {
            if (e.name !== "AbortError")
                fault(body, e);
        }
    }
    show();
    return {
        unmount() {
            clearTimeout(again);
            stop.abort();
        },
    };
}
