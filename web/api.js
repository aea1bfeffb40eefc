/* api.js - what the page asks of its server. The cookie of the session travels by itself; whatever
 * changes something carries the session's token in a header. */

export class ApiError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status; /* 0: the server could not be reached */
    }
}

let csrf = "";
let signedOut = () => {};

/* fn is called when the server no longer knows the session. */
export function onSignedOut(fn) {
    signedOut = fn;
}

async function failure(response) {
    let message = `The server answered ${response.status}`;
    try {
        const body = await response.json();
        message = body.error.message || message;
    } catch {
        /* not JSON: the status must do */
    }
    return new ApiError(response.status, message);
}

/* The response, when it is a good one; else an ApiError is thrown. */
export async function send(method, path, body, signal) {
    const headers = {};
    if (body !== undefined)
        headers["Content-Type"] = "application/json";
    if (method !== "GET")
        headers["X-CSRF-Token"] = csrf;
    let response;
    try {
        response = await fetch(path, {
            method,
            headers,
            signal,
            body: body === undefined ? undefined : JSON.stringify(body),
            cache: "no-store",
        });
    } catch (e) {
        if (e.name === "AbortError")
            throw e;
        throw new ApiError(0, "The server cannot be reached");
    }
    if (response.ok)
        return response;
    const error = await failure(response);
    if (error.status === 401 && !path.endsWith("/session"))
        signedOut();
    throw error;
}

async function json(method, path, body, signal) {
    const response = await send(method, path, body, signal);
    return response.status === 204 ? null : response.json();
}

const base = "/admin/v1/";

export function get(route, signal) {
    return json("GET", base + route, undefined, signal);
}

export function post(route, body = {}) {
    return json("POST", base + route, body);
}

export function remove(route) {
    return json("DELETE", base + route);
}

function enter(session) {
    csrf = session.csrf || "";
    return session;
}

/* {"name", "role", "csrf", "generates", ...}, or null: nobody is signed in. */
export async function session() {
    try {
        return enter(await get("session"));
    } catch (e) {
        if (e.status === 401)
            return null;
        throw e;
    }
}

export async function signIn(key) {
    return enter(await post("session", { key }));
}

export async function signOut() {
    await remove("session");
    csrf = "";
}
