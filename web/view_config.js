/* view_config.js - the configuration: what is in force, what the file says now where that differs,
 * and what it takes to get there. */
import { get } from "./api.js";
import { fault } from "./dialog.js";
import { el, put, setText } from "./dom.js";
import { plural } from "./format.js";

export const title = "Configuration";

const WAYS = {
    live: "at a reload",
    roll: "at a reload, workers are replaced one by one",
    restart: "at the next start",
};

/* What it is for: the first sentence, the rest on request. */
function help(text) {
    const end = text.search(/(?<=.{16})[.:;] /);
    if (end < 0)
        return el("p", { class: "help" }, text);
    return el("details", { class: "help" }, el("summary", {}, text.slice(0, end) + "."),
        text.slice(end + 2));
}

function optionRow(o) {
    const pending = o.pending !== null && o.pending !== undefined;
    return el("tr", { class: pending ? "pending" : null },
        el("th", { scope: "row" }, el("code", {}, o.name), help(o.help)),
        el("td", {},
            el("code", { class: o.is_default ? "muted" : null }, o.value),
            o.unit && /^-?\d/.test(o.value) ? el("span", { class: "muted" }, " " + o.unit) : null,
            pending ? el("p", { class: "change" }, "File: ", el("code", {}, o.pending),
                " takes effect " + WAYS[o.reload]) : null,
            !o.is_default && o.default !== null && o.default !== undefined
                ? el("p", { class: "help" }, "Default: ", el("code", {}, o.default)) : null));
}

function sectionName(s) {
    return s.scope === "top" ? "Server" : s.name ? `${s.scope} "${s.name}"` : s.scope;
}

/* only: "all", "set" or "pending". */
function matches(o, only, text) {
    const pending = o.pending !== null && o.pending !== undefined;
    if (only === "pending" && !pending)
        return false;
    if (only === "set" && o.is_default && !pending)
        return false;
    return !text || (o.name + " " + o.help).toLowerCase().includes(text);
}

function sections(config, only, text) {
    const made = config.sections.map((s) => {
        const options = s.options.filter((o) => matches(o, only, text));
        return options.length ? el("section", { class: "card config" }, el("h2", {}, sectionName(s)),
            el("table", { class: "plain", "aria-label": sectionName(s) },
                el("tbody", {}, options.map(optionRow)))) : null;
    }).filter(Boolean);
    return made.length ? made : el("p", { class: "empty" },
        only === "pending" ? "The file says what is in force." : "No option matches.");
}

export function mount(node, { query }) {
    const body = el("div", { class: "view" });
    const about = el("p", {});
    const trouble = el("p", { class: "fault", role: "alert", hidden: true });
    const stop = new AbortController();
    let config = null;
    let only = query.get("show") || "set";
    let reload = null;

    const search = el("input", { class: "input find", type: "search", "aria-label": "Find an option",
        placeholder: "Find an option", input: () => show() });

    function show() {
        if (config)
            put(body, sections(config, only, search.value.trim().toLowerCase()));
    }

    async function refresh() {
        try {
            config = await get("config/options", stop.signal);
            setText(about, `${config.file || "No file"}: ` + (config.pending
                ? `${plural(config.pending, "option differs", "options differ")} from what is in force`
                : "what it says is in force"));
            setText(trouble, config.fault ? "The file as it is now would be refused: " + config.fault : "");
            trouble.hidden = !config.fault;
            show();
        } catch (e) {
            if (e.name !== "AbortError" && e.status)
                fault(body, e);
        }
    }

    const choices = [["set", "Changed"], ["pending", "Pending"], ["all", "All"]];
    put(node,
        el("div", { class: "head" }, el("div", {}, el("h1", { tabindex: -1 }, title), about),
            el("a", { class: "button", href: "#/operate" }, "Reload")),
        trouble,
        el("div", { class: "head" },
            el("fieldset", { class: "choice" }, el("legend", { class: "hidden-text" }, "Options shown"),
                choices.map(([value, text]) => el("label", {},
                    el("input", { type: "radio", name: "only", value, checked: value === only,
                        change: () => {
                            only = value;
                            show();
                        } }),
                    el("span", {}, text)))),
            search),
        body);
    refresh();
    const timer = setInterval(refresh, 5000);
    return {
        update(s) {
            const now = `${s.process} ${s.reload.number} ${s.reload.state}`;
            if (reload !== null && reload !== now)
                refresh();
            reload = now;
        },
        unmount() {
            clearInterval(timer);
            stop.abort();
        },
    };
}
