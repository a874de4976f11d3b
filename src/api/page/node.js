// The node's API.

const TOKEN = "portolan.token";

// A question, though it is asked by POST.
const PLAN = "v1/plan";

// A connection that is silent for longer is gone: the node sends a comment every 15 seconds.
const LONGEST_SILENCE = 40_000;
const LONGEST_ANSWER = 30_000;

// A problem document (RFC 9457), or why there was no answer.
export class Problem extends Error {
  constructor({ status = 0, type = "about:blank", detail, secret = null }) {
    super(detail);
    // `secret` is the token that was sent, if one was.
    Object.assign(this, { status, type, secret });
  }

  get needsToken() {
    return this.status === 401;
  }

  get isSafety() {
    return this.type === "urn:portolan:refused-by-safety";
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (secret) => (secret ? sessionStorage.setItem(TOKEN, secret) : sessionStorage.removeItem(TOKEN)),
  // Called when the node no longer knows the token, which is then gone.
  onRefused: () => {},
};

// The node refuses even a read that needs no token if the one that comes with it is not valid: then the token is dropped, and what
// changes nothing is asked without it.
async function send(method, path, options = {}) {
  const secret = options.secret ?? token.get();
  try {
    return await sendOnce(method, path, { ...options, secret });
  } catch (error) {
    // Who brings a token of their own only wants to know whether it is valid.
    if (!error.needsToken || !secret || options.secret) throw error;
    // Another one may have been typed meanwhile.
    if (token.get() === secret) {
      token.set(null);
      token.onRefused();
    }
    if (method !== "GET" && path !== PLAN) throw error;
    return sendOnce(method, path, { ...options, secret: token.get() });
  }
}

// The milliseconds by which the node's clock is ahead of this one.
let ahead = 0;
export const now = () => Date.now() + ahead;

async function sendOnce(method, path, { body, headers = {}, signal, secret }) {
  const sent = { accept: "application/json", ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  if (secret) sent.authorization = `Bearer ${secret}`;
  let response;
  try {
    response = await fetch(path, {
      method, signal, headers: sent, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    });
  } catch (error) {
    throw signal?.aborted ? error : new Problem({ detail: "the node does not answer" });
  }
  if (!response.ok) throw new Problem({ ...(await problem(response)), secret });
  const date = Date.parse(response.headers.get("date"));
  // The header has whole seconds.
  if (Math.abs(date - now()) > 2000) ahead = date - Date.now();
  return response;
}

async function problem(response) {
  const { status } = response;
  try {
    return { ...(await response.json()), status };
  } catch {
    return { status, detail: `the node answers ${status} ${response.statusText}`.trim() };
  }
}

async function call(method, path, options = {}) {
  const signals = [AbortSignal.timeout(LONGEST_ANSWER), options.signal].filter(Boolean);
  const response = await send(method, path, { ...options, signal: AbortSignal.any(signals) });
  try {
    return await response.json();
  } catch (error) {
    throw lost(error);
  }
}

// Why a body could not be read: the connection broke, or it is no JSON, as from a proxy between.
const lost = (error) => (error instanceof DOMException ? error : new Problem({ detail: "the answer of the node was cut off" }));

const query = (parameters) => new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));

export const node = {
  status: () => call("GET", "v1/status"),
  map: (service) => call("GET", `v1/map?${query({ service })}`),
  traffic: (service, signal) => call("GET", `v1/traffic?${query({ service })}`, { signal }),
  explain: (question, signal) => call("GET", `v1/explain?${query(question)}`, { signal }),
  plan: (change, signal) => call("POST", PLAN, { body: change, signal }),
  override: (body) => call("POST", "v1/overrides", { body }),
  restore: (id, overrideSafety) =>
    call("DELETE", `v1/overrides/${id}${overrideSafety ? "?override_safety=true" : ""}`),
  // Who the node takes this page for, with the token of the session or another one.
  whoami: (secret) => call("GET", "v1/whoami", { secret }),
};

// The events after the one with this id, as they happen. Ends when the node closes the stream.
//
// EventSource would do this but for the token, which it cannot send.
export async function* events(after, onOpen) {
  const gone = new AbortController();
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => gone.abort(), LONGEST_SILENCE);
  };
  const headers = { accept: "text/event-stream", ...(after !== undefined && { "last-event-id": String(after) }) };
  try {
    heard();
    const response = await send("GET", "v1/events", { headers, signal: gone.signal });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read().catch((error) => Promise.reject(lost(error)));
      if (done) return;
      heard();
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      const found = messages.flatMap(dataOf);
      if (found.length > 0) yield found;
    }
  } finally {
    clearTimeout(silence);
    gone.abort();
  }
}

// The JSON of a message of the stream; comments have none.
function dataOf(message) {
  const data = message.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
  return data.length > 0 ? [JSON.parse(data.join("\n"))] : [];
}
