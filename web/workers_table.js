/* workers_table.js - a row per worker: what it does now, and how to take it out of service. */
import { post } from "./api.js";
import { attempt, confirm, toast } from "./dialog.js";
import { el, setAttr, setText } from "./dom.js";
import { count, digits, percent, seconds, share, stateName } from "./format.js";
import { meter } from "./meter.js";
import { table } from "./table.js";

const TONES = { starting: "warn", loading: "warn", warming: "warn", ready: "ok", suspect: "warn",
    draining: "warn", dead: "bad" };

/* Out of service because an operator wished it: its thread has ended. */
function isDrained(w) {
    return w.drained && w.state === "dead";
}

function stateText(w) {
    if (isDrained(w))
        return "Drained";
    if (w.state === "loading")
        return `Loading ${percent(w.loaded_percent)}`;
    return stateName(w.state);
}

async function drain(w) {
    const yes = await confirm({
        title: `Drain worker ${w.worker}?`,
        body: el("p", {}, "It gets no new requests; those that it runs may end. It can be returned to "
            + "service afterwards."),
        action: "Drain worker",
    });
    if (!yes)
        return;
    await post("drain", { worker: w.worker });
    toast(`Worker ${w.worker} is being drained`);
}

async function giveBack(w) {
    await post("undrain", { worker: w.worker });
    toast(`Worker ${w.worker} returns to service`);
}

function actions() {
    const current = {};
    const button = el("button", {
        class: "button small",
        type: "button",
        click: () => attempt(button, async () => {
            const w = current.row;
            if (!w.drained)
                await drain(w);
            else if (isDrained(w))
                await giveBack(w);
        }),
    });
    button.llmdRow = current;
    return button;
}

const columns = [
    {
        label: "Worker",
        node: () => el("span", {}, el("span", {}), " ", el("span", { class: "muted" })),
        patch: (node, w) => {
            setText(node.firstChild, w.worker);
            setText(node.lastChild, w.device);
        },
    },
    { label: "Model", text: (w) => w.model },
    {
        label: "State",
        class: "state-cell",
        node: () => el("span", {}, el("span", {}), el("span", { class: "error" })),
        patch: (node, w) => {
            setText(node.firstChild, stateText(w));
            setText(node.lastChild, isDrained(w) ? "" : w.error);
        },
        tone: (w) => (isDrained(w) ? "warn" : TONES[w.state]),
    },
    { label: "Running", num: true, text: (w) => count(w.running) },
    { label: "Waiting", num: true, text: (w) => count(w.waiting) },
    { label: "KV cache", num: true, ...meter((w) => w.kv, [0.9, 0.98]) },
    { label: "Hit rate", num: true, text: (w) => share(w.hit_rate) },
    { label: "Output", unit: "tok/s", num: true, text: (w) => digits(w.tok_s) },
    { label: "Prompt", unit: "tok/s", num: true, text: (w) => digits(w.prompt_tok_s) },
    { label: "TTFT p95", num: true, text: (w) => seconds(w.ttft_p95) },
    { label: "Preempted", num: true, text: (w) => count(w.preemptions) },
    { label: "Moved away", num: true, text: (w) => count(w.migrated) },
    { label: "Restarts", num: true, text: (w) => count(w.starts - 1), tone: (w) => (w.starts > 1 ? "warn" : null) },
];

export function workersTable(may) {
    const action = {
        label: "",
        class: "action",
        node: actions,
        patch: (button, w) => {
            button.llmdRow.row = w;
            setText(button, w.drained ? "Return" : "Drain");
            setAttr(button, "aria-disabled", w.drained && !isDrained(w) ? "true" : null);
            button.setAttribute("aria-label", `${w.drained ? "Return" : "Drain"} worker ${w.worker}`);
        },
    };
    const made = table({
        label: "Workers",
        columns: may ? [...columns, action] : columns,
        key: (w) => `${w.worker}/${w.place}`,
        empty: "No workers: the configuration names no model, or none could be opened.",
    });
    return {
        node: made.node,
        update: (s) => made.update(s.workers),
    };
}
