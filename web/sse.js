/* sse.js - server-sent events of a response to a POST, which EventSource cannot make. */

/* Calls take(object) for each event's data until "[DONE]" or the end of the stream. */
export async function readEvents(stream, take) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { done, value } = await reader.read();
        if (done)
            return;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) {
            if (!line.startsWith("data: "))
                continue; /* comments keep the connection open; blank lines end an event */
            const data = line.slice(6).trim();
            if (data === "[DONE]") {
                await reader.cancel();
                return;
            }
            take(JSON.parse(data));
        }
    }
}
