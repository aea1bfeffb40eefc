/* theme.js - dark, light, or what the system says. A classic script in the head, so that the page is
 * painted in the right scheme from its first frame. */
"use strict";

const theme = {
    get() {
        try {
            return localStorage.getItem("llmd-theme") || "auto";
        } catch {
            return "auto"; /* storage may be forbidden */
        }
    },
    set(name) {
        document.documentElement.dataset.theme = name;
        try {
            localStorage.setItem("llmd-theme", name);
        } catch {
            /* it holds until the page is left */
        }
    },
};
document.documentElement.dataset.theme = theme.get();
window.llmdTheme = theme;
