// The token: typed once, kept for the session of this tab, and sent in a header only.

import { html, useEffect, useRef, useState } from "../lib.js";
import { reconnect } from "../live.js";
import { node, token } from "../node.js";
import { update, useStore } from "../store.js";
import { sentence } from "../words.js";
import { Dialog } from "./dialog.js";

export const FOR_CHANGES = "Changes need a token with the role operator or admin, from [control] token of the config.";

const REFUSED = "The token you typed is no longer valid; type it again.";

// Whether the node takes changes from this page, as far as it has said so.
export const canChange = (self) => self !== null && self.role !== "viewer";

// Goes on without a token.
export function forget() {
  token.set(null);
  update({ isTokenRefused: false });
  reconnect();
}

// `why` a token is needed; `forChanges` says that one for reads is not enough.
export function TokenForm({ why, forChanges, onDone }) {
  const isRefused = useStore((state) => state.isTokenRefused);
  const self = useStore((state) => state.self);
  const isLesser = forChanges && token.get() !== null && self?.role === "viewer";
  const input = useRef(null);
  useEffect(() => input.current.focus(), []);
  const [secret, setSecret] = useState("");
  const [error, setError] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      const self = await node.whoami(secret);
      if (forChanges && !canChange(self)) return setError("This token has the role viewer: changes need operator or admin.");
    } catch (problem) {
      return setError(sentence(problem.message));
    }
    token.set(secret);
    update({ isTokenRefused: false });
    reconnect();
    return onDone();
  };
  return html`<form class="token" onSubmit=${submit}>
    <p>${isRefused ? REFUSED : isLesser ? `The token you typed has the role viewer. ${why}` : why}</p>
    <label>Token
      <input ref=${input} type="password" value=${secret} autocomplete="off" required aria-describedby="token-error"
        onInput=${(event) => setSecret(event.target.value)} /></label>
    <p id="token-error" class="bad" role="alert">${error}</p>
    <p class="quiet">It is kept until this tab is closed, and sent to this node only.</p>
    <button type="submit" class="primary">Use this token</button>
  </form>`;
}

export function TokenDialog({ why, onClose }) {
  const self = useStore((state) => state.self);
  const leave = () => {
    forget();
    onClose();
  };
  const hasToken = token.get() !== null;
  return html`<${Dialog} title="Token" onClose=${onClose}>
    ${hasToken || canChange(self)
      ? html`<p>${self ? `The node knows this page as ${self.by}, with the role ${self.role}.` : "The node has not answered yet."}</p>
        ${hasToken && html`<button class="primary" onClick=${leave}>Forget the token</button>`}`
      : html`<${TokenForm} why=${why} onDone=${onClose} />`}
  <//>`;
}
