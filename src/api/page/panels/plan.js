// Whom a change would move: the shares of the regions before and after, and the countries whose clients go elsewhere.

import { html, memo } from "../lib.js";
import { colourOf, indices } from "../palette.js";
import { useStore } from "../store.js";
import { count, countryName, percent, sentence, shortName } from "../words.js";

const BASES = {
  queries: "Clients are counted by the queries of the last hour.",
  addresses: "Clients are counted by the addresses of each country.",
};

const MOST_SERVICES = 5;
const MOST_COUNTRIES = 8;

export const Plan = memo(({ plan, problem }) => {
  const regions = useStore((state) => state.status?.regions);
  if (problem) return html`<section class="plan"><p class="note">Whom it moves is not known: ${problem.message}</p></section>`;
  if (!plan) return html`<section class="plan"><p class="quiet">Asking whom it moves …</p></section>`;
  const { refused, no_effect: noEffect, services, services_left_out: leftOut = 0, endpoints = [], pool } = plan;
  const moving = services.filter(({ moved }) => moved > 0);
  const more = moving.slice(MOST_SERVICES).length + leftOut;
  const numbers = indices(regions ?? []);
  return html`<section class="plan" aria-live="polite" aria-label="Whom it moves">
    ${refused && html`<p class="note bad"><strong>A safety rule forbids it.</strong> ${sentence(refused)}</p>`}
    ${moving.length === 0 && html`<p><strong>It moves no clients between regions now.</strong> ${noEffect && `${sentence(noEffect)}.`}</p>`}
    ${moving.slice(0, MOST_SERVICES).map((it) => html`<${Service} key=${it.service} ...${it} numbers=${numbers} />`)}
    ${more > 0 && html`<p class="quiet">and clients of ${count(more, "more service")}</p>`}
    ${endpoints.map((it) => html`<${Endpoints} ...${it} />`)}
    ${pool && html`<p>Pool ${pool.name} uses ${pool.before.join(", ") || "no backend"} now, then ${pool.after.join(", ") || "none"}.</p>`}
  </section>`;
});

function Service({ service, family, basis, moved, before, after, countries, countries_left_out: leftOut = 0, numbers }) {
  const sorted = [...countries].sort((a, b) => b.weight - a.weight);
  const more = sorted.slice(MOST_COUNTRIES).length + leftOut;
  const bar = (label, shares) => html`<${Bar} label=${label} parts=${shares.map(({ region, share }) => ({
    name: region, share, colour: colourOf(numbers.get(region)) }))} />`;
  return html`<div class="moving">
    <h3>It moves ${percent(moved)} of the clients of ${shortName(service)}${family ? ` (${family})` : ""}</h3>
    ${bar("now", before)}${bar("then", after)}
    <ul class="countries" role="list">
      ${sorted.slice(0, MOST_COUNTRIES).map(({ country, weight, from, to }) => html`<li key=${country}>
        <span>${countryName(country)}</span> <span class="quiet">${percent(weight)}</span> <span>${shares(from)} → ${shares(to)}</span></li>`)}
      ${more > 0 && html`<li class="quiet">and ${count(more, "more country", "more countries")}</li>`}
    </ul>
    ${BASES[basis] && html`<p class="quiet">${BASES[basis]}</p>`}
  </div>`;
}

// The endpoints of a region have no colours of their own.
function Endpoints({ region, family, before, after }) {
  const bar = (label, shares) => html`<${Bar} label=${label} parts=${shares.map(({ endpoint, share }) => ({
    name: endpoint, share, colour: "var(--rule-strong)" }))} />`;
  return html`<div class="moving"><h3>Endpoints of ${region}${family ? ` (${family})` : ""}</h3>
    ${bar("now", before)}${bar("then", after)}</div>`;
}

const shares = (of) => (of.length === 0 ? "no answer"
  : of.map(({ region, share }) => (share < 0.995 ? `${region} ${percent(share)}` : region)).join(", "));

// A part with less room than this has no text in it.
const LEAST_LABELLED = 0.12;

function Bar({ label, parts }) {
  return html`<div class="bar-row"><span class="quiet">${label}</span>
    <div class="bar">${parts.filter(({ share }) => share > 0).map(({ name, share, colour }) => html`<span key=${name}
      style=${{ flexGrow: share, background: colour }} title="${name} ${percent(share)}">
      ${share > LEAST_LABELLED && html`<span>${name} ${percent(share)}</span>`}</span>`)}</div></div>`;
}
