/* view_operate.js - what an operator does: reload, level of the log, drain. Each asks before it acts
 * and says what came of it. */
import { post } from "./api.js";
import { attempt, confirm, toast } from "./dialog.js";
import { el, put, setAttr, setText } from "./dom.js";
import { plural, stateName } from "./format.js";

export const title = "Operations";

const LEVELS = ["error", "warn", "info", "debug"];
const RELOAD_TONES = { done: "ok", failed: "bad", running: "warn" };

async function reload() {
    const yes = await confirm({
        title: "Reload the configuration?",
        body: el("p", {}, "The file is read and checked first: one at fault changes nothing. Models that "
            + "changed are replaced one worker at a time; requests that run are not interrupted."),
        action: "Reload",
    });
    if (!yes)
        return;
    await post("reload");
    toast("Reload begun");
}

async function drain() {
    const yes = await confirm({
        title: "Drain and end this server?",
        body: [el("p", {}, "It takes no more requests. What runs may end, within drain_timeout_s; then the "
            + "process ends, and this page with it. Nothing on this page can take that back.")],
        action: "Drain the server",
        danger: true,
    });
    if (!yes)
        return;
    await post("drain");
    toast("The server drains", "warn");
}

function reloadCard(may) {
    const state = el("strong", {});
    const message = el("p", {});
    const changes = el("ul", { class: "changes" });
    const button = el("button", { class: "button primary", type: "button",
        click: () => attempt(button, reload) }, "Reload");
    return {
        node: el("section", { class: "card" },
            el("header", { class: "head" }, el("h2", {}, "Configuration"), state),
            el("p", { class: "muted" }, "Reads llmd.conf anew. ",
                el("a", { href: "#/config?show=pending" }, "What would change")),
            message, changes, may ? button : null),
        update(s) {
            const r = s.reload;
            setText(state, r.state === "idle" ? "Not reloaded yet" : stateName(r.state));
            setAttr(state, "data-tone", RELOAD_TONES[r.state]);
            setText(message, r.message);
            message.hidden = !r.message;
            setAttr(message, "data-tone", r.state === "failed" ? "bad" : null);
            put(changes, r.changes.map((c) => el("li", {}, c)));
            changes.hidden = !r.changes.length;
            if (may)
                setAttr(button, "aria-disabled", r.state === "running" ? "true" : null);
        },
    };
}

function levelCard(may) {
    const select = el("select", { class: "select", id: "level", disabled: !may },
        LEVELS.map((l) => el("option", { value: l }, l)));
    const button = el("button", { class: "button", type: "button", click: () => attempt(button, change) },
        "Set level");
    const now = el("strong", {});
    let current = null;
    async function change() {
        const level = select.value;
        const yes = await confirm({
            title: `Log at level ${level}?`,
            body: el("p", {}, "From now on until the next start or reload."),
            action: "Set level",
        });
        if (!yes)
            return;
        const answer = await post("log_level", { level });
        toast(`The log is at level ${answer.level}; it was at ${answer.was}`);
    }
    return {
        node: el("section", { class: "card" },
            el("header", { class: "head" }, el("h2", {}, "Log"), now),
            el("div", { class: "field" }, el("label", { for: "level" }, "Least severe lines that are logged"),
                el("div", { class: "inline" }, select, may ? button : null))),
        update(s) {
            const { log_level: level, log_lost: lost } = s.server;
            setText(now, `Level ${level}` + (lost ? `, ${plural(lost, "line")} lost` : ""));
            if (level !== current)
                select.value = level;
            current = level;
        },
    };
}

function drainCard() {
    const button = el("button", { class: "button danger", type: "button",
        click: () => attempt(button, drain) }, "Drain the server");
    return {
        node: el("section", { class: "card" },
            el("header", { class: "head" }, el("h2", {}, "Drain")),
            el("p", { class: "muted" }, "Takes the server out of service and ends it when what runs has ended. "
                + "Single workers are drained in the table of workers, on the overview."),
            button),
        update(s) {
            button.disabled = s.verdict.state === "draining";
        },
    };
}

export function mount(node, { may }) {
    const cards = [reloadCard(may), levelCard(may)];
    if (may)
        cards.push(drainCard());
    put(node, el("div", { class: "head" }, el("h1", { tabindex: -1 }, title)),
        may ? null : el("p", { class: "muted" }, "Your key may only look: what changes something needs a key "
            + "whose scope is admin."),
        el("div", { class: "cards wide" }, cards.map((c) => c.node)));
    return {
        update(s) {
            for (const c of cards)
                c.update(s);
        },
    };
}
