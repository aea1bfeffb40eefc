/* live.js - the snapshot that the server makes once per second, by server-sent events, and what is
 * known of the connection.
 *
 * A page that nobody sees lets go of its stream: browsers keep no more than six connections to one
 * server over HTTP/1.1, and six forgotten tabs would lock the seventh out. */
import { session } from "./api.js";

const RETRY_MS = [500, 1000, 2000, 4000];
const SILENCE_MS = 6000; /* the server speaks every second */
const HIDDEN_MS = 5000;

export const live = {
    snapshot: null,
    at: 0, /* when it came, by our clock */
    connection: "connecting", /* open, lost, paused, off */
    lostSince: 0,
    restarted: null, /* when another process answered than before */
};

const listeners = new Set();
let source = null;
let tries = 0;
let timer = 0;
let silence = 0;
let expired = () => {};

/* fn(live) after each snapshot and each change of the connection; returns how to end that. */
export function onLive(fn) {
    listeners.add(fn);
    return () => listeners.delete(fn);
}

function tell() {
    for (const fn of listeners)
        fn(live);
}

function close() {
    clearTimeout(timer);
    clearTimeout(silence);
    if (source)
        source.close();
    source = null;
}

function lost() {
    close();
    if (live.connection === "off" || live.connection === "paused")
        return;
    if (live.connection !== "lost")
        live.lostSince = Date.now();
    live.connection = "lost";
    timer = setTimeout(again, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    tell();
}

/* A stream that is refused says nothing of why; the session does. */
async function again() {
    try {
        if (await session())
            open();
        else
            expired();
    } catch {
        lost();
    }
}

function take(event) {
    const next = JSON.parse(event.data);
    clearTimeout(silence);
    silence = setTimeout(lost, SILENCE_MS);
    if (live.snapshot && live.snapshot.process !== next.process)
        live.restarted = Date.now();
    tries = 0;
    live.snapshot = next;
    live.at = Date.now();
    live.connection = "open";
    tell();
}

function open() {
    close();
    source = new EventSource("/admin/v1/stream");
    source.addEventListener("snapshot", take);
    source.onerror = lost;
    silence = setTimeout(lost, SILENCE_MS);
}

/* fn is called when the session has ended. */
export function start(fn) {
    expired = fn;
    live.connection = "connecting";
    open();
}

export function stop() {
    live.connection = "off";
    close();
}

let hidden = 0;
document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (live.connection === "off")
        return;
    if (document.hidden) {
        hidden = setTimeout(() => {
            close();
            live.connection = "paused";
        }, HIDDEN_MS);
    } else if (live.connection === "paused") {
        live.connection = "connecting";
        again();
    }
});
