/* dom.js - elements without a framework. Whatever is text becomes a text node: nothing that a model,
 * a log or a client wrote can become markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attrs, children) {
    for (const [name, value] of Object.entries(attrs || {})) {
        if (value === null || value === undefined || value === false)
            continue;
        if (typeof value === "function")
            node.addEventListener(name, value);
        else
            node.setAttribute(name, value === true ? "" : value);
    }
    put(node, ...children);
    return node;
}

/* An element. attrs: attributes (null and false: left out) and, where the value is a function,
 * listeners: {class: "x", click: fn}. Children: nodes, texts, arrays of them, null. */
export function el(tag, attrs, ...children) {
    return fill(document.createElement(tag), attrs, children);
}

export function svg(tag, attrs, ...children) {
    return fill(document.createElementNS(SVG, tag), attrs, children);
}

/* Puts children into a node, in place of what was there. */
export function put(node, ...children) {
    const flat = children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);
    node.replaceChildren(...flat.map((c) => (c instanceof Node ? c : String(c))));
    return node;
}

/* Only when it differs: what did not change is neither laid out nor read out again. */
export function setText(node, text) {
    const value = text === null || text === undefined ? "" : String(text);
    if (node.textContent !== value)
        node.textContent = value;
}

export function setAttr(node, name, value) {
    if (value === null || value === undefined || value === false)
        node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value))
        node.setAttribute(name, value);
}

/* A box that scrolls sideways when what is in it is too wide; then the keyboard reaches it, too. */
export function scrollBox(label, ...children) {
    const box = el("div", { class: "table-box", role: "region", "aria-label": label }, children);
    const look = () => setAttr(box, "tabindex", box.scrollWidth > box.clientWidth ? 0 : null);
    const watch = new ResizeObserver(look);
    watch.observe(box);
    if (box.firstElementChild)
        watch.observe(box.firstElementChild);
    return box;
}

/* Calls fn once per frame at most, however often it is asked for. */
export function perFrame(fn) {
    let asked = 0;
    return () => {
        if (!asked)
            asked = requestAnimationFrame(() => {
                asked = 0;
                fn();
            });
    };
}
