/* dialog.js - questions before something is done, and what came of it. */
import { el, put } from "./dom.js";

/* Asks; true when it was confirmed. The dialog takes the focus and gives it back. body: a text or
 * nodes; danger: it cannot be taken back. */
export function confirm({ title, body, action, danger }) {
    return new Promise((resolve) => {
        const dialog = el("dialog", { "aria-labelledby": "dialog-title" },
            el("form", { method: "dialog" },
                el("h2", { id: "dialog-title" }, title),
                el("div", { class: "dialog-body" }, body),
                el("div", { class: "buttons" },
                    el("button", { value: "no", class: "button" }, "Back"),
                    el("button", { value: "yes", class: danger ? "button danger" : "button primary" },
                        action))));
        dialog.addEventListener("close", () => {
            dialog.remove();
            resolve(dialog.returnValue === "yes");
        });
        document.body.append(dialog);
        dialog.returnValue = "no";
        dialog.showModal();
    });
}

const TOAST_MS = 6000;
const box = el("div", { class: "toasts", role: "status", "aria-live": "polite" });

/* Says that something happened; tone: ok or bad. */
export function toast(text, tone = "ok") {
    if (!box.isConnected)
        document.body.append(box);
    const one = el("p", { class: "toast", "data-tone": tone }, text);
    box.append(one);
    setTimeout(() => one.remove(), TOAST_MS);
}

/* Runs what a button does, once at a time; what fails is said. The button is not disabled: it would
 * lose the focus. */
export async function attempt(button, fn) {
    if (button.hasAttribute("aria-busy"))
        return;
    button.setAttribute("aria-busy", "true");
    try {
        await fn();
    } catch (e) {
        toast(e.message, "bad");
    } finally {
        button.removeAttribute("aria-busy");
    }
}

/* Something that could not be had, in its place on the page. */
export function fault(node, error) {
    put(node, el("p", { class: "fault", role: "alert" }, error.message));
}
