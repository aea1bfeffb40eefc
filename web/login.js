/* login.js - the door: a key is shown once, the server remembers the session by a cookie that no
 * script can read. */
import { signIn } from "./api.js";
import { el, put, setText } from "./dom.js";

/* Puts the form into node; in(session) once the key was right. why: what brought the reader here. */
export function login(node, enter, why) {
    const key = el("input", {
        id: "key",
        class: "input",
        type: "password",
        autocomplete: "current-password",
        required: true,
        spellcheck: "false",
        "aria-describedby": "key-help login-error",
    });
    const error = el("p", { id: "login-error", class: "fault", role: "alert", hidden: true });
    const button = el("button", { class: "button primary" }, "Sign in");
    async function submit(e) {
        e.preventDefault();
        button.disabled = true;
        error.hidden = true;
        try {
            enter(await signIn(key.value.trim()));
        } catch (failed) {
            setText(error, failed.status === 401 || failed.status === 403
                ? "This key does not open this page. " + failed.message
                : failed.message);
            error.hidden = false;
            button.disabled = false;
            key.select();
        }
    }
    put(node, el("main", { class: "door" },
        el("form", { submit, novalidate: true },
            el("div", { class: "brand" }, "llmd"),
            el("h1", {}, "Sign in"),
            why ? el("p", { role: "status" }, why) : null,
            el("div", { class: "field" },
                el("label", { for: "key" }, "Key"), key,
                el("p", { class: "help", id: "key-help" },
                    "One whose scope in llmd.conf is admin, or read_only for looking.")),
            error, button)));
    key.focus();
}
