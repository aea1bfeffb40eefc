/* format.js - numbers, times and sizes as people read them. What is not known is a dash. */

export const DASH = "–";
const SPACE = "\u00a0"; /* a number and its unit stay on one line */

function known(v) {
    return typeof v === "number" && Number.isFinite(v);
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(v) {
    return known(v) ? whole.format(v) : DASH;
}

/* With as many decimals as give three digits. */
export function digits(v) {
    if (!known(v))
        return DASH;
    const a = Math.abs(v);
    if (a === 0)
        return "0";
    return a >= 100 ? whole.format(v) : v.toFixed(a >= 10 ? 1 : 2);
}

/* What a candidate would cost, in prompt tokens: whole ones, where they are many. */
export function cost(v) {
    return known(v) && Math.abs(v) >= 10 ? count(v) : digits(v);
}

export function ms(v) {
    if (!known(v))
        return DASH;
    return Math.abs(v) < 1000 ? digits(v) + SPACE + "ms" : digits(v / 1000) + SPACE + "s";
}

/* A short time in seconds; span() is for long ones. */
export function seconds(v) {
    return ms(known(v) ? v * 1000 : null);
}

export function us(v) {
    return ms(known(v) && v >= 0 ? v / 1000 : null);
}

export function percent(v) {
    if (!known(v))
        return DASH;
    if (v > 0 && v < 0.05)
        return "<" + SPACE + "0.1" + SPACE + "%";
    return (v > 0 && v < 10 ? v.toFixed(1) : v.toFixed(0)) + SPACE + "%";
}

/* A share of 0 to 1. */
export function share(v) {
    return percent(known(v) ? v * 100 : null);
}

/* part of all, or null when there is none. */
export function ratio(part, all) {
    return known(part) && all > 0 ? part / all : null;
}

export function bytes(v) {
    if (!known(v))
        return DASH;
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    while (v >= 1024 && i < units.length - 1) {
        v /= 1024;
        i++;
    }
    return (i ? digits(v) : count(v)) + SPACE + units[i];
}

/* Seconds: "42 s", "3 min 12 s", "5 h 2 min", "3 d 4 h". */
export function span(s) {
    if (!known(s))
        return DASH;
    s = Math.max(0, Math.floor(s));
    const two = (a, b, big, small) => a + SPACE + big + (b ? " " + b + SPACE + small : "");
    if (s < 60)
        return s + SPACE + "s";
    if (s < 3600)
        return two(Math.floor(s / 60), s % 60, "min", "s");
    if (s < 86400)
        return two(Math.floor(s / 3600), Math.floor(s / 60) % 60, "h", "min");
    return two(Math.floor(s / 86400), Math.floor(s / 3600) % 24, "d", "h");
}

const clockOf = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const minuteOf = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const dayOf = new Intl.DateTimeFormat("en-CA", { dateStyle: "short" });

function date(t) {
    const d = new Date(known(t) ? t * 1000 : t || NaN);
    return Number.isNaN(d.getTime()) ? null : d;
}

/* Of seconds since 1970 or an RFC 3339 text, in the reader's time zone: 14:02:11. */
export function clock(t) {
    const d = date(t);
    return d ? clockOf.format(d) : DASH;
}

export function minute(t) {
    const d = date(t);
    return d ? minuteOf.format(d) : DASH;
}

/* The clock, with the day in front unless that is today. */
export function when(t) {
    const d = date(t);
    if (!d)
        return DASH;
    const day = dayOf.format(d);
    return (day === dayOf.format(new Date()) ? "" : day + " ") + clockOf.format(d);
}

export function plural(n, one, many) {
    return count(n) + " " + (n === 1 ? one : many || one + "s");
}

/* "read_only" as a word of a sentence that begins with it: "Read only". */
export function stateName(word) {
    const text = String(word || "").replaceAll("_", " ");
    return text.charAt(0).toUpperCase() + text.slice(1);
}
