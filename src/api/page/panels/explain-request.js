// What the proxy does with a request: its listener, the routes that it does not take, the one that it takes, the backends.

import { html } from "../lib.js";
import { overrideState } from "../words.js";

export function RequestExplanation({ explanation }) {
  const { url, method, client, listener, skipped, route, outcome } = explanation;
  return html`<article class="explanation">
    <h3>${method} ${url} from ${client}</h3>
    <ol class="stages">
      <li><h4>Listener</h4><ul class="candidates" role="list"><li class="kept"><strong>${listener.name}</strong>
        <span>${listener.protocol} at ${listener.addresses.join(", ")}${listener.note ? `; ${listener.note}` : ""}</span></li></ul></li>
      <li><h4>Route <span class="quiet">the first that matches</span></h4><ul class="candidates" role="list">
        ${skipped.map(({ number, why }) => html`<li class="dropped"><del>route ${number}</del> <span>${why}</span></li>`)}
        ${route && html`<li class="kept"><strong>route ${route.number}</strong> <span>${route.conditions}${route.auth ? `; asks ${route.auth}` : ""}</span></li>`}
        ${edits(route?.edits).map((text) => html`<li class="kept"><span>${text}</span></li>`)}
      </ul></li>
      ${outcome.kind === "forward" && html`<${Forward} ...${outcome} />`}
    </ol>
    <p class="verdict">${conclusion(outcome)}</p>
  </article>`;
}

function edits({ path, host, request_headers: request = [], response_headers: response = [] } = {}) {
  return [path && `path becomes ${path}`, host && `host becomes ${host}`, ...request, ...response.map((it) => `response: ${it}`)]
    .filter(Boolean);
}

function Forward({ split, pool }) {
  return html`
    ${split.length > 0 && html`<li><h4>Split</h4><ul class="candidates" role="list">
      ${split.map((part) => html`<li class=${part.pool === pool.name ? "kept" : "dropped"}>
        ${part.pool === pool.name ? html`<strong>${part.pool}</strong>` : html`<del>${part.pool}</del>`} <span>weight ${part.weight}</span></li>`)}
    </ul></li>`}
    <li><h4>Pool ${pool.name} <span class="quiet">${pool.balance}</span></h4><ul class="candidates" role="list">
      ${pool.backends.map(({ name, verdict, used, note, override }) => html`<li class=${used ? "kept" : "dropped"}>
        ${used ? html`<strong>${name}</strong>` : html`<del>${name}</del>`}
        <span>${[verdict, override && overrideState(override), note].filter(Boolean).join("; ")}</span></li>`)}
      ${pool.sticky && html`<li class="kept"><span>cookie ${pool.sticky.cookie}: ${pool.sticky.note}</span></li>`}
      ${pool.hedge && html`<li class="kept"><span>${pool.hedge}</span></li>`}
    </ul></li>`;
}

function conclusion(outcome) {
  switch (outcome.kind) {
    case "forward": {
      const { chosen, how } = outcome.pool;
      return html`${chosen ? html`Forwarded to <strong>${chosen.address}</strong>: ` : ""}${how}`;
    }
    case "redirect":
      return html`Redirected by ${outcome.status} to <strong>${outcome.to}</strong>`;
    case "respond":
      return html`Answered with ${outcome.status} <q>${outcome.body}</q>`;
    default:
      return "No route matches: 404, or for TCP a closed connection";
  }
}
