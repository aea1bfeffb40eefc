/* view_chat.js - a conversation with a model, and of each answer what an operator wants to know: time
 * to the first token, tokens per second, cached tokens, the worker. */
import { send } from "./api.js";
import { el, put, setText } from "./dom.js";
import { count, DASH, digits, ms } from "./format.js";
import { pagePath } from "./request_parts.js";
import { readEvents } from "./sse.js";

export const title = "Playground";

/* The conversation outlives a look at another view. */
const talk = { messages: [], cards: [], options: { max_tokens: "256", temperature: "0.7", system: "" } };

function figures(values) {
    return el("dl", { class: "figures" }, values.map(([label, text]) =>
        el("div", {}, el("dt", {}, label), el("dd", {}, text))));
}

function said(role, text) {
    const body = el("p", { class: "words" }, text);
    const below = el("div", {});
    return { node: el("article", { class: "said " + role },
        el("h2", {}, role === "user" ? "You" : "Model"), body, below), body, below };
}

/* What of an answer was measured here and what the server said of it. */
function measure(answer, response) {
    const end = performance.now();
    const tokens = answer.usage ? answer.usage.completion_tokens : answer.chunks;
    const between = answer.first ? end - answer.first : 0;
    const details = (answer.usage && answer.usage.prompt_tokens_details) || {};
    return [
        ["First token", answer.first ? ms(answer.first - answer.began) : DASH],
        ["Speed", tokens > 1 && between > 0
            ? `${digits(((tokens - 1) * 1000) / between)}\u00a0tok/s` : DASH],
        ["Output", `${count(tokens)}\u00a0tok`],
        ["Prompt", answer.usage ? `${count(answer.usage.prompt_tokens)}\u00a0tok` : DASH],
        ["Cached", `${count(details.cached_tokens ?? null)}\u00a0tok`],
        ["Worker", answer.usage ? response.headers.get("X-Llmd-Worker") || DASH : DASH],
        ["End", answer.finish || "stopped"],
    ];
}

/* Streams an answer into a card; resolves with what it said. */
async function ask(body, card, signal) {
    const answer = { began: performance.now(), first: 0, chunks: 0, text: "", usage: null, finish: null, id: null };
    const response = await send("POST", "/v1/chat/completions", body, signal);
    try {
        await readEvents(response.body, (data) => {
            if (data.error)
                throw new Error(data.error.message);
            answer.id = data.id || answer.id;
            const choice = (data.choices || [])[0];
            if (choice && choice.delta && choice.delta.content) {
                answer.first = answer.first || performance.now();
                answer.chunks++;
                answer.text += choice.delta.content;
                setText(card.body, answer.text);
            }
            if (choice && choice.finish_reason)
                answer.finish = choice.finish_reason;
            answer.usage = data.usage || answer.usage;
        });
    } catch (e) {
        if (e.name !== "AbortError")
            throw e;
    }
    put(card.below, figures(measure(answer, response)),
        answer.id ? el("p", {}, el("a", { href: pagePath(answer.id) }, "Where its time went")) : null);
    return answer.text;
}

function optionsForm(models) {
    const o = talk.options;
    const bind = (name, input) => {
        input.addEventListener("input", () => (o[name] = input.value));
        return input;
    };
    const select = bind("model", el("select", { class: "select", id: "c-model" }, models));
    return { select, node: el("div", { class: "filters" },
        el("div", { class: "field" }, el("label", { for: "c-model" }, "Model"), select),
        el("div", { class: "field" }, el("label", { for: "c-max" }, "At most, tok"),
            bind("max_tokens", el("input", { class: "input", id: "c-max", inputmode: "numeric",
                value: o.max_tokens }))),
        el("div", { class: "field" }, el("label", { for: "c-temp" }, "Temperature"),
            bind("temperature", el("input", { class: "input", id: "c-temp", inputmode: "decimal",
                value: o.temperature }))),
        el("div", { class: "field grow" }, el("label", { for: "c-system" }, "System message"),
            bind("system", el("input", { class: "input", id: "c-system", value: o.system })))) };
}

function bodyOf(text) {
    const o = talk.options;
    const system = o.system.trim() ? [{ role: "system", content: o.system.trim() }] : [];
    return {
        model: o.model,
        messages: [...system, ...talk.messages, { role: "user", content: text }],
        max_tokens: Number(o.max_tokens) || 256,
        temperature: Number.isFinite(Number(o.temperature)) ? Number(o.temperature) : 0.7,
        stream: true,
        stream_options: { include_usage: true },
    };
}

export function mount(node, { may, me }) {
    const head = el("div", { class: "head" }, el("h1", { tabindex: -1 }, title));
    if (me.generates === false) {
        put(node, head, el("p", { class: "empty" }, may
            ? "Nothing is generated at this address: open the page where the models are served."
            : "Your key may only look: the playground needs a key whose scope is admin."));
        return {};
    }
    const options = optionsForm([]);
    const log = el("div", { class: "talk", role: "log", "aria-label": "Conversation", tabindex: 0 },
        talk.cards);
    const hint = el("p", { class: "empty" }, "Ask something: the answer streams, with its figures below.");
    const words = el("textarea", { class: "input", id: "c-words", rows: 3, "aria-label": "Your message",
        placeholder: "Your message. Ctrl and Enter sends it.", required: true });
    const ok = el("button", { class: "button primary" }, "Send");
    const stop = el("button", { class: "button", type: "button", disabled: true }, "Stop");
    let names = "";
    let running = null;

    async function submit(e) {
        e.preventDefault();
        const text = words.value.trim();
        if (!text || running)
            return;
        const mine = said("user", text);
        const answer = said("assistant", "");
        talk.cards.push(mine.node, answer.node);
        log.append(mine.node, answer.node);
        hint.hidden = true;
        words.value = "";
        running = new AbortController();
        ok.disabled = true;
        stop.disabled = false;
        answer.node.scrollIntoView({ block: "end" });
        try {
            const reply = await ask(bodyOf(text), answer, running.signal);
            talk.messages.push({ role: "user", content: text }, { role: "assistant", content: reply });
        } catch (failed) {
            if (failed.name !== "AbortError")
                put(answer.below, el("p", { class: "fault", role: "alert" }, failed.message));
        }
        running = null;
        ok.disabled = false;
        stop.disabled = true;
    }

    stop.addEventListener("click", () => running && running.abort());
    words.addEventListener("keydown", (e) => {
        if (e.key === "Enter" && (e.ctrlKey || e.metaKey))
            words.form.requestSubmit();
    });
    const anew = el("button", { class: "button", type: "button", click: () => {
        if (running)
            running.abort();
        talk.messages = [];
        talk.cards = [];
        log.replaceChildren();
        hint.hidden = false;
        words.focus();
    } }, "New conversation");
    hint.hidden = talk.cards.length > 0;
    put(node, head, el("div", { class: "view playground" }, options.node, hint, log,
        el("form", { class: "ask", submit }, words, el("div", { class: "buttons" }, ok, stop, anew))));
    return {
        update(s) {
            const list = s.models.map((m) => m.name);
            if (list.join() !== names) {
                names = list.join();
                put(options.select, list.map((n) => el("option", { value: n }, n)));
                if (!list.includes(talk.options.model))
                    talk.options.model = list[0];
                options.select.value = talk.options.model;
            }
        },
        unmount: () => running && running.abort(),
    };
}
