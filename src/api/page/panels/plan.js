// Whom a change would move: the shares of the regions before and after, and the countries whose clients go elsewhere.

import { html, memo } from "../lib.js";
import { chooseService } from "../live.js";
import { colourOf, indices } from "../palette.js";
import { useStore } from "../store.js";
import { count, countryName, percent, regionsText, sentence, shortName } from "../words.js";

const BASES = {
  queries: "Clients are counted by the queries of the last hour.",
  addresses: "Clients are counted by the addresses of each country.",
};

const MOST_SERVICES = 5;
const MOST_COUNTRIES = 8;

export const Plan = memo(({ plan, problem }) => {
  const regions = useStore((state) => state.status?.regions);
  const charted = useStore((state) => state.service);
  if (problem) return html`<section class="plan"><p class="note">Whom it moves is not known: ${problem.message}</p></section>`;
  if (!plan) return html`<section class="plan"><p class="quiet">Asking whom it moves …</p></section>`;
  const { refused, all_down: allDown, no_effect: noEffect, services, services_left_out: leftOut = 0, endpoints = [], pool } = plan;
  const moving = services.filter(({ moved }) => moved > 0);
  const more = moving.slice(MOST_SERVICES).length + leftOut;
  const numbers = indices(regions ?? []);
  const isOne = moving.length === 1 && moving[0].service === charted;
  return html`<section class="plan" aria-label="Whom it moves">
    <div aria-live="polite">
      ${refused && html`<p class="note bad"><strong>A safety rule forbids it.</strong> ${sentence(refused)}</p>`}
      ${allDown && html`<p class="note">${sentence(allDown)}</p>`}
      ${moving.length === 0 && html`<p><strong>It moves no clients between regions now.</strong> ${noEffect && `${sentence(noEffect)}.`}</p>`}
      ${pool && html`<p>Pool ${pool.name} uses ${pool.before.join(", ") || "no backend"} now, then ${pool.after.join(", ") || "none"}.</p>`}
    </div>
    ${moving.slice(0, MOST_SERVICES).map((it) => html`<${Service} key=${`${it.service} ${it.type} ${it.family}`} ...${it} numbers=${numbers}
      charted=${isOne ? null : charted} />`)}
    ${more > 0 && html`<p class="quiet">and clients of ${count(more, "more service")}</p>`}
    ${endpoints.map((it) => html`<${Endpoints} ...${it} />`)}
  </section>`;
});

// The countries are those with the most clients that move first, as the node sends them. `charted` is the service that the chart shows,
// if there is a choice.
function Service({ service, family, basis, moved, before, after, countries, countries_left_out: leftOut = 0, numbers, charted }) {
  const more = countries.slice(MOST_COUNTRIES).length + leftOut;
  const bar = (label, shares) => html`<${Bar} label=${label} parts=${shares.map(({ region, share }) => ({
    name: region, share, colour: colourOf(numbers.get(region)) }))} />`;
  return html`<div class="moves-clients">
    <header><h3>It moves ${percent(moved)} of the clients of ${shortName(service)}${family ? ` (${family})` : ""}</h3>
      ${charted && html`<button type="button" class="small" aria-pressed=${service === charted} onClick=${() => chooseService(service)}>
        Map<span class="visually-hidden"> of ${shortName(service)}</span></button>`}</header>
    ${bar("now", before)}${bar("then", after)}
    <ul class="countries" role="list">
      ${countries.slice(0, MOST_COUNTRIES).map(({ country, weight, moved: part, from, to }) => html`<li key=${country}>
        <span>${countryName(country)}</span> <span class="quiet">${percent(weight * part)}</span> <span>${regionsText(from)} → ${regionsText(to)}</span></li>`)}
      ${more > 0 && html`<li class="quiet">and ${count(more, "more country", "more countries")}</li>`}
    </ul>
    ${BASES[basis] && html`<p class="quiet">${BASES[basis]}</p>`}
  </div>`;
}

// The endpoints of a region have no colours of their own.
function Endpoints({ region, family, before, after }) {
  const bar = (label, shares) => html`<${Bar} label=${label} parts=${shares.map(({ endpoint, share }) => ({
    name: endpoint, share, colour: "var(--rule-strong)" }))} />`;
  return html`<div class="moves-clients"><h3>Endpoints of ${region}${family ? ` (${family})` : ""}</h3>
    ${bar("now", before)}${bar("then", after)}</div>`;
}

// A part with less room than this has no text in it.
const LEAST_LABELLED = 0.12;

function Bar({ label, parts }) {
  return html`<div class="bar-row"><span class="quiet">${label}</span>
    <div class="bar">${parts.filter(({ share }) => share > 0).map(({ name, share, colour }) => html`<span key=${name}
      style=${{ flexGrow: share, background: colour }} title="${name} ${percent(share)}">
      ${share > LEAST_LABELLED && html`<span>${name} ${percent(share)}</span>`}</span>`)}</div></div>`;
}
