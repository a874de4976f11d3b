// Why a client gets its answer, or what the proxy does with its request: stage by stage, with what was left out and why.

import { html, useEffect, useState } from "../lib.js";
import { node } from "../node.js";
import { useStore } from "../store.js";
import { countryName, shortName } from "../words.js";
import { RequestExplanation } from "./explain-request.js";

const TYPES = ["A", "AAAA", "HTTPS", "CNAME", "SRV", "MX", "TXT", "NS", "SOA"];

// `asked` is the question: `{ name, type?, client }` with a name or a URL. `onAsk` gets another one.
export function Explain({ asked, onAsk, onExplained }) {
  const service = useStore((state) => state.service);
  // The explanation is of this very moment: it is asked for again when something has changed.
  const epoch = useStore((state) => state.status?.node.epoch);
  const [reply, setReply] = useState({});
  useEffect(() => {
    if (!asked.client) return undefined;
    const gone = new AbortController();
    node.explain(question(asked, service), gone.signal).then(
      (explanation) => setReply({ explanation }),
      (error) => gone.signal.aborted || setReply({ error: error.message }),
    );
    return () => gone.abort();
  }, [asked, epoch]);
  useEffect(() => onExplained(onChart(reply.explanation)), [reply]);
  return html`<div class="explain">
    <${Form} key=${JSON.stringify(asked)} asked=${asked} service=${service} onAsk=${onAsk} />
    <div aria-live="polite">
      ${reply.error && html`<p class="note bad">${reply.error}</p>`}
      ${!asked.client && html`<p class="note">Click a country, or type the address of a client: this shows which region
        its clients are sent to, and why. A URL instead of a name shows what the proxy does with a request.</p>`}
      ${reply.explanation && (reply.explanation.stages
        ? html`<${Answer} explanation=${reply.explanation} />`
        : html`<${RequestExplanation} explanation=${reply.explanation} />`)}
    </div>
  </div>`;
}

const isUrl = (name) => /^[a-z]+:\/\//i.test(name);

function question({ name, type, client }, service) {
  if (isUrl(name ?? "")) return { url: name, client };
  return { name: name || service, type, client };
}

// What the chart shows of an explanation.
function onChart(explanation) {
  const { lat, lon } = explanation?.location ?? {};
  return Number.isFinite(lat) && Number.isFinite(lon) ? { lat, lon, region: explanation.region } : null;
}

function Form({ asked, service, onAsk }) {
  const [name, setName] = useState(asked.name ?? "");
  const [type, setType] = useState(asked.type ?? "A");
  const [client, setClient] = useState(asked.client ?? "");
  const ask = (event) => {
    event.preventDefault();
    onAsk({ name: name.trim(), type, client: client.trim() });
  };
  return html`<form class="question" onSubmit=${ask}>
    <label class="wide">Name or URL
      <input value=${name} placeholder=${service ? shortName(service) : "http://www.example.com/"} spellcheck="false"
        autocomplete="off" onInput=${(event) => setName(event.target.value)} /></label>
    <label>Client
      <input id="client" value=${client} placeholder="84.128.0.1" required spellcheck="false" autocomplete="off"
        onInput=${(event) => setClient(event.target.value)} /></label>
    <label>Type
      <select value=${type} disabled=${isUrl(name)} onChange=${(event) => setType(event.target.value)}>
        ${TYPES.map((it) => html`<option>${it}</option>`)}
      </select></label>
    <button type="submit">Explain</button>
  </form>`;
}

const KINDS = {
  static: "a record of the zone; no service decides",
  no_name: "there is no such name",
  no_data: "the name has no record of this type",
  unsteered: "the name is a service, but nothing is chosen for this type",
  referral: "other name servers answer for this name",
};

const TITLES = {
  fence: "May serve this client", rank: "Best first", "tie groups": "Equally good",
  eligible: "Up, and not drained", share: "By weight", ttl: "How long it may be cached",
};

const INSTEAD = { fallback: "the fallback addresses", cname: "the fallback name", servfail: "SERVFAIL" };

function Answer({ explanation }) {
  const { name, type, client, kind, service, region, instead, stages, answer, scope, epoch } = explanation;
  return html`<article class="explanation">
    <h3>${shortName(name)} ${type} for ${client}</h3>
    <p>${whereabouts(explanation)}</p>
    ${kind !== "dynamic" && html`<p>${KINDS[kind]}</p>`}
    ${service && service !== name && html`<p>The service ${shortName(service)} decides.</p>`}
    <ol class="stages">${stages.map((stage) => html`<${Stage} ...${stage} />`)}</ol>
    <p class="verdict">${region ? html`Sent to <strong>${region}</strong>` : instead ? `No region can serve it: it gets ${INSTEAD[instead]}` : answer.rcode}</p>
    <pre class="records" tabindex="0" aria-label="The answer">${[...answer.records, ...answer.authority].join("\n") || answer.rcode}</pre>
    <p class="quiet">${answer.rcode}${answer.ttl === null ? "" : `, may be cached for ${answer.ttl} s`}, valid for the client's /${scope}, epoch ${epoch}</p>
  </article>`;
}

function whereabouts({ client, location: { country, continent, subdivision, source, prefix } }) {
  if (!country && !continent) return `Where ${client} is, is not known`;
  const place = [country ? countryName(country) : continent, subdivision].filter(Boolean).join(", ");
  return `In ${place}, like all of ${prefix}, by ${source === "builtin" ? "the builtin database" : source}`;
}

function Stage({ stage, family, kept, dropped }) {
  return html`<li>
    <h4>${TITLES[stage] ?? stage}${family ? ` (${family})` : ""} <span class="quiet">${stage}</span></h4>
    <ul class="candidates" role="list">
      ${kept.map(({ region, note }) => html`<li class="kept"><strong>${region}</strong> ${note && html`<span>${note}</span>`}</li>`)}
      ${dropped.map(({ region, why }) => html`<li class="dropped"><del>${region}</del> <span>${why}</span></li>`)}
    </ul>
  </li>`;
}
