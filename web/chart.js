/* chart.js - one figure: a line per series over time, its values of now in words above it, and the
 * same numbers as a table for who cannot or does not want to read a drawing. A pointer, or the arrow
 * keys, read the values of another moment. */
import { el, perFrame, put, setAttr, setText, svg } from "./dom.js";
import { clock, DASH, minute } from "./format.js";

const HEIGHT = 132;
const PAD = { left: 44, right: 8, top: 10, bottom: 20 };
const TABLE_ROWS = 12;

function isNumber(v) {
    return typeof v === "number" && Number.isFinite(v);
}

/* The least round number that is not below v: 1, 2, 2.5 or 5 times a power of ten. */
function roundUp(v) {
    const power = 10 ** Math.floor(Math.log10(v));
    for (const step of [1, 2, 2.5, 5, 10])
        if (v <= step * power * 1.0001)
            return step * power;
    return v;
}

/* One value per pixel or so: the largest of its bucket, for a spike must not get lost. */
function thin(t, values, buckets) {
    if (t.length <= buckets)
        return t.map((at, i) => [at, values[i]]);
    const from = t[0];
    const width = (t[t.length - 1] - from) / buckets || 1;
    const out = [];
    let last = -1;
    t.forEach((at, i) => {
        const bucket = Math.floor((at - from) / width);
        const v = isNumber(values[i]) ? values[i] : null;
        if (bucket !== last)
            out.push([at, v]);
        else if (v !== null && (out[out.length - 1][1] === null || v > out[out.length - 1][1]))
            out[out.length - 1][1] = v;
        last = bucket;
    });
    return out;
}

/* A path; a gap where nothing is known. */
function line(points, x, y) {
    let d = "";
    let pen = false;
    points.forEach(([at, v], i) => {
        if (v === null || v === undefined) {
            pen = false;
            return;
        }
        const alone = !pen && !isNumber((points[i + 1] || [])[1]);
        d += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(v).toFixed(1)}`;
        if (alone)
            d += "h1.5"; /* one known value between unknown ones is a dot */
        pen = true;
    });
    return d;
}

/* title; series: [{label, column, class, some: zeros are not drawn}], the first on top; format(v): a text with its unit;
 * scale(v): the same for the axis, shorter; metric: its name in /metrics; full: the axis ends there;
 * quiet: what stands there when nothing is known. */
export function chart({ title, series, format, scale, metric, full, quiet }) {
    const plot = svg("svg", { class: "plot", role: "img", height: HEIGHT });
    const grid = svg("g", { class: "grid" });
    const paths = series.map((s) => svg("path", { class: "line " + s.class }));
    const cursor = svg("line", { class: "cursor", y1: PAD.top, y2: HEIGHT - PAD.bottom });
    put(plot, grid, [...paths].reverse(), cursor);
    const values = series.map((s) => el("span", { class: "value" }, DASH));
    const moment = el("span", { class: "moment" });
    const note = el("p", { class: "quiet" }, quiet || "No traffic");
    const frame = el("div", { class: "frame", tabindex: 0, role: "group", "aria-label": title },
        plot, note);
    const rows = el("tbody");
    const more = el("details", { class: "numbers" },
        el("summary", {}, "Numbers"),
        el("table", { "aria-label": title },
            el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"),
                series.map((s) => el("th", { scope: "col", class: "num" }, s.label)))),
            rows),
        el("p", { class: "metric" }, "In /metrics: ", el("code", {}, metric)));
    const node = el("figure", { class: "card chart" },
        el("figcaption", {},
            el("h3", {}, title), moment,
            el("dl", { class: "now" }, series.map((s, i) =>
                el("div", {}, el("dt", { class: "key " + s.class }, s.label), el("dd", {}, values[i]))))),
        frame, more);

    let data = { t: [] };
    let range = [0, 1];
    let pointed = -1; /* index into data.t */
    let latest = series.map(() => null);

    const column = (i) => data[series[i].column] || [];
    /* What is drawn of it. */
    const drawn = (i) => (series[i].some ? column(i).map((v) => v || null) : column(i));

    function readout() {
        series.forEach((s, i) => setText(values[i], format(pointed >= 0 ? column(i)[pointed] : latest[i])));
        setText(moment, pointed >= 0 ? clock(data.t[pointed]) : "");
    }

    function summary() {
        const peaks = series.map((s, i) => {
            const known = column(i).filter(isNumber);
            return known.length
                ? `${s.label}: now ${format(latest[i])}, at most ${format(Math.max(...known))}`
                : `${s.label}: ${quiet || "no traffic"}`;
        });
        return `${title} from ${minute(range[0])} to ${minute(range[1])}. ${peaks.join(". ")}`;
    }

    function drawGrid(width, top, x, y) {
        const marks = [0, 0.5, 1].map((part) => {
            const v = top * part;
            return [
                svg("line", { x1: PAD.left, x2: width - PAD.right, y1: y(v), y2: y(v) }),
                svg("text", { x: PAD.left - 6, y: y(v) + 4, "text-anchor": "end" }, scale(v)),
            ];
        });
        const n = width > 420 ? 4 : 3;
        const times = Array.from({ length: n }, (_, i) => {
            const at = range[0] + ((range[1] - range[0]) * i) / (n - 1);
            const anchor = i === 0 ? "start" : i === n - 1 ? "end" : "middle";
            return svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": anchor }, minute(at));
        });
        put(grid, marks, times);
    }

    function draw() {
        const width = frame.clientWidth;
        if (!width)
            return;
        const all = series.flatMap((s, i) => column(i).filter(isNumber));
        const top = full || roundUp(Math.max(...all, 0) || 1);
        const x = (at) => PAD.left +
            ((at - range[0]) / (range[1] - range[0] || 1)) * (width - PAD.left - PAD.right);
        const y = (v) => PAD.top + (1 - Math.min(v, top) / top) * (HEIGHT - PAD.top - PAD.bottom);
        setAttr(plot, "width", width);
        drawGrid(width, top, x, y);
        series.forEach((s, i) => setAttr(paths[i], "d",
            line(thin(data.t, drawn(i), (width - PAD.left) / 1.5), x, y)));
        note.hidden = all.length > 0;
        cursor.classList.toggle("on", pointed >= 0);
        if (pointed >= 0) {
            setAttr(cursor, "x1", x(data.t[pointed]));
            setAttr(cursor, "x2", x(data.t[pointed]));
        }
        readout();
        setAttr(plot, "aria-label", summary());
        if (more.open)
            fillTable();
    }

    function fillTable() {
        const step = Math.max(1, Math.floor(data.t.length / TABLE_ROWS));
        const picked = [];
        for (let i = data.t.length - 1; i >= 0 && picked.length < TABLE_ROWS; i -= step)
            picked.push(i);
        put(rows, picked.map((at) => el("tr", {},
            el("th", { scope: "row" }, clock(data.t[at])),
            series.map((s, i) => el("td", { class: "num" }, format(column(i)[at]))))));
    }

    const redraw = perFrame(draw);

    function point(index) {
        pointed = Math.max(-1, Math.min(index, data.t.length - 1));
        redraw();
    }

    frame.addEventListener("pointermove", (e) => {
        const part = (e.offsetX - PAD.left) / (frame.clientWidth - PAD.left - PAD.right);
        const at = range[0] + part * (range[1] - range[0]);
        let best = -1;
        data.t.forEach((t, i) => {
            if (best < 0 || Math.abs(t - at) < Math.abs(data.t[best] - at))
                best = i;
        });
        point(best);
    });
    frame.addEventListener("pointerleave", () => point(-1));
    frame.addEventListener("blur", () => point(-1));
    frame.addEventListener("keydown", (e) => {
        const step = Math.max(1, Math.round(data.t.length / 60));
        const from = pointed < 0 ? data.t.length - 1 : pointed;
        const to = { ArrowLeft: from - step, ArrowRight: from + step, Home: 0, End: data.t.length - 1 };
        if (e.key === "Escape")
            point(-1);
        else if (e.key in to)
            point(Math.max(0, to[e.key]));
        else
            return;
        setAttr(node.querySelector(".now"), "aria-live", "polite");
        e.preventDefault();
    });
    more.addEventListener("toggle", redraw);
    new ResizeObserver(redraw).observe(frame);

    return {
        node,
        /* The values of now, one per series; they stand above the drawing. */
        now(list) {
            latest = list;
            readout();
        },
        /* next: {t: [seconds since 1970], column: [...]}; from, to: what the axis spans. */
        update(next, from, to) {
            const held = pointed >= 0 ? data.t[pointed] : null;
            data = next;
            range = [from, to];
            if (held !== null) /* the same moment, wherever it stands now */
                pointed = data.t.findIndex((t) => t >= held);
            redraw();
        },
    };
}
