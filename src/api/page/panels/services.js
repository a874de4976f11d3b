// Services and their regions. Choosing one shows it on the chart.

import { html, useMemo, useState } from "../lib.js";
import { chooseService } from "../live.js";
import { LEVELS } from "../health.js";
import { useStore } from "../store.js";
import { overrideState, shortName } from "../words.js";
import { targetIn } from "./act.js";
import { Rows, Sign } from "./rows.js";

const RANKS = { none: "no order" };

export function Services({ onAct }) {
  const services = useStore((state) => state.status?.services);
  const chosen = useStore((state) => state.service);
  const [search, setSearch] = useState("");
  const shown = useMemo(() => {
    const wanted = search.trim().toLowerCase();
    return (services ?? []).filter(({ name }) => name.includes(wanted));
  }, [services, search]);
  return html`<div class="tree">
    <div class="tools"><input type="search" placeholder="Search" aria-label="Search services" value=${search}
      onInput=${(event) => setSearch(event.target.value)} /></div>
    <${Rows} items=${shown} label="services" keyOf=${({ name }) => name}
      classOf=${({ name }) => (name === chosen ? "chosen" : "")} empty="This node has no such service."
      render=${(service) => html`<${Row} service=${service} isChosen=${service.name === chosen} onAct=${onAct} />`} />
  </div>`;
}

function Row({ service, isChosen, onAct }) {
  const { name, type, rank, regions } = service;
  const level = levelOf(regions);
  return html`
    <button class="main" aria-pressed=${isChosen} title="Show it on the chart" onClick=${() => chooseService(name)}>
      <span class="twist" aria-hidden="true">${isChosen ? "◆" : ""}</span>
      <${Sign} level=${level} word=${`${regions.filter(isUsed).length} of ${regions.length} regions serve`} sign=${LEVELS[level].sign} />
      <span class="what"><span class="name">${shortName(name)}</span> <span class="quiet">${type}, ${RANKS[rank] ?? rank}</span></span>
      <span class="why">${regions.map((region, at) => html`${at > 0 ? ", " : ""}<span key=${region.name}
        class=${isUsed(region) ? "" : "crossed"}>${region.name}</span>${remark(region)}`)}</span>
    </button>
    <button class="small act" onClick=${() => onAct({ target: targetIn(service, regions[0].name), service })}>
      Act<span class="visually-hidden"> on ${name}</span></button>`;
}

const isUsed = ({ usable }) => usable !== "no";

function remark({ override, held }) {
  const parts = [override && overrideState(override), held && `held by ${held}`].filter(Boolean);
  return parts.length > 0 ? ` (${parts.join(", ")})` : "";
}

function levelOf(regions) {
  if (!regions.some(isUsed)) return "bad";
  return regions.every(({ usable, override, held }) => usable === "yes" && !override && !held) ? "well" : "watch";
}
