/* table.js - a table whose rows come and go every second. A row is known by its key and keeps its
 * element: focus, selection and open menus survive an update.
 *
 * On a phone each row becomes a card (parts.css), so roles are spelled out: some browsers drop what a
 * table means when it is not displayed as one. */
import { el, put, scrollBox, setAttr, setText } from "./dom.js";

function header(c) {
    return el("th", { scope: "col", role: "columnheader", class: c.num ? "num" : c.class },
        c.label || el("span", { class: "hidden-text" }, "Action"), c.unit ? el("span", { class: "unit" }, c.unit) : null);
}

function makeRow(columns) {
    const cells = columns.map((c, i) =>
        el(i ? "td" : "th", {
            role: i ? "cell" : "rowheader",
            scope: i ? null : "row",
            class: [c.num ? "num" : "", c.class || ""].join(" ").trim() || null,
            "data-label": c.label + (c.unit ? ", " + c.unit : ""),
        }));
    return { tr: el("tr", { role: "row" }, cells), cells, nodes: [] };
}

function fillRow(made, columns, row) {
    columns.forEach((c, i) => {
        const cell = made.cells[i];
        if (c.node) {
            if (!made.nodes[i]) {
                made.nodes[i] = c.node(row);
                put(cell, made.nodes[i]);
            }
            if (c.patch)
                c.patch(made.nodes[i], row);
        } else {
            setText(cell, c.text(row));
        }
        if (c.tone)
            setAttr(cell, "data-tone", c.tone(row) || null);
    });
}

/* columns: [{label, unit, num: right-aligned, class,
 *            text(row) or node(row): made once per row, patch(node, row): at each update,
 *            tone(row): ok, warn, bad or null}]; the first one names the row.
 * key(row): what stays the same while the row does. empty: what stands there without rows. */
export function table({ label, columns, key, empty }) {
    const body = el("tbody", { role: "rowgroup" });
    const nothing = el("p", { class: "empty" }, empty);
    const node = scrollBox(label,
        el("table", { role: "table", "aria-label": label },
            el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns.map(header))), body),
        nothing);
    const rows = new Map();

    function update(list) {
        const seen = new Set();
        let at = body.firstElementChild;
        for (const row of list) {
            const k = key(row);
            let made = rows.get(k);
            if (!made) {
                made = makeRow(columns);
                rows.set(k, made);
            }
            seen.add(k);
            fillRow(made, columns, row);
            if (made.tr === at)
                at = at.nextElementSibling;
            else
                body.insertBefore(made.tr, at);
        }
        for (const [k, made] of rows)
            if (!seen.has(k)) {
                made.tr.remove();
                rows.delete(k);
            }
        node.toggleAttribute("data-empty", list.length === 0);
    }
    update([]);
    return {
        node,
        update,
        /* What to say instead of rows. */
        say(text) {
            setText(nothing, text);
        },
    };
}
