// Where the clients of a service go: the chart, or the same as a table, with the regions as its legend.

import { html, memo, useMemo, useState } from "../lib.js";
import { chooseService } from "../live.js";
import { LEVELS, isFine, regionLevel } from "../health.js";
import { Swatch, indices as indicesOf } from "../palette.js";
import { useStore } from "../store.js";
import { count, countryName, percent, regionsText, shortName } from "../words.js";
import { Chart } from "./chart.js";
import { placed, sharesOfRegions, unservedShare } from "./flows.js";
import { described, moved, previewed } from "./preview.js";

// Regions in the legend: the others are in the list of regions.
const MOST_IN_LEGEND = 12;

const BASES = { queries: "by the queries of the last hour", addresses: "by the addresses of each country" };

export function ChartPanel({ explained, onExplain }) {
  const map = useStore((state) => state.map);
  const service = useStore((state) => state.service);
  const regions = useStore((state) => state.status?.regions);
  const services = useStore((state) => state.status?.services);
  const preview = useStore((state) => state.preview);
  const shown = useMemo(() => previewed(map, preview), [map, preview]);
  const [isTable, setTable] = useState(false);
  const indices = useMemo(() => indicesOf(regions ?? []), [regions?.map(({ name }) => name).join()]);
  const down = useMemo(() => new Set((regions ?? []).filter((region) => regionLevel(region) === "bad").map(({ name }) => name)), [regions]);
  // What is explained is what is, which a dialog covers.
  const onCountry = preview ? null : ({ client }) => client && onExplain({ name: service, client });
  return html`<section class="panel chart-panel" aria-labelledby="chart-title">
    <header>
      <h2 id="chart-title">Where clients go</h2>
      <${ServiceChoice} services=${services} chosen=${service} />
      <span class="quiet basis">${map?.basis && BASES[map.basis]}</span>
      <button class="small" aria-pressed=${isTable} onClick=${() => setTable(!isTable)}>Table</button>
    </header>
    <div class="chart-frame">
      ${isTable
        ? html`<${CountryTable} map=${shown.map} moving=${shown.moving} onCountry=${onCountry} />`
        : html`<${Chart} map=${shown.map} moving=${shown.moving} indices=${indices} down=${down} explained=${explained} onCountry=${onCountry} />`}
      <${Preview} ...${described(map, preview, shown, isTable ? "in bold" : "outlined")} />
      ${map?.problem && html`<p class="note">${map.countries ? "The map is not up to date" : "There is no map"}: ${map.problem}</p>`}
    </div>
    <${Legend} map=${shown.map} before=${shown.before} regions=${regions} indices=${indices} />
  </section>`;
}

// Says that the chart is not of what is, also to those who do not see it.
const Preview = ({ headline, shares }) => html`<div class="preview" role="status">
  ${headline && html`<p><strong>Preview.</strong> ${headline}${shares && html`<span class="visually-hidden"> ${shares}</span>`}</p>`}
</div>`;

const ServiceChoice = memo(({ services = [], chosen }) => html`<label class="choice">
  <span class="visually-hidden">Service</span>
  <select value=${chosen} onChange=${(event) => chooseService(event.target.value)}>
    ${services.map(({ name }) => html`<option value=${name}>${shortName(name)}</option>`)}
  </select>
</label>`);

// The regions of the service, with what they get, and what they got `before` a change.
function Legend({ map, before, regions = [], indices }) {
  const shares = useMemo(() => sharesOfRegions(map), [map]);
  const sharesBefore = useMemo(() => sharesOfRegions(before ?? map), [before, map]);
  const change = (from, to) => (percent(from) === percent(to) ? percent(to) : html`<del>${percent(from)}</del> → ${percent(to)}`);
  const known = new Map(regions.map((region) => [region.name, region]));
  const places = new Set(placed(map).map(({ name }) => name));
  const sorted = [...(map?.regions ?? [])].sort((a, b) => (shares.get(b.name) ?? 0) - (shares.get(a.name) ?? 0));
  const shown = sorted.length > MOST_IN_LEGEND ? sorted.slice(0, MOST_IN_LEGEND)
    : sorted.sort((a, b) => indices.get(a.name) - indices.get(b.name));
  const [unserved, unservedBefore] = [unservedShare(map), unservedShare(before ?? map)];
  return html`<ul class="legend" aria-label="Regions of this service and their shares of clients">
    ${shown.map(({ name, available }) => {
      const level = known.has(name) ? regionLevel(known.get(name)) : "unknown";
      return html`<li key=${name} class=${available ? "" : "away"}>
        <${Swatch} index=${indices.get(name) ?? 0} /> <span class="name">${name}</span>
        ${!isFine(level) && html`<span class="sign ${level}" title=${known.get(name)?.verdict}>${LEVELS[level].sign}</span>`}
        <span class="share">${change(sharesBefore.get(name) ?? 0, shares.get(name) ?? 0)}</span>
        ${!places.has(name) && html`<span class="quiet">no place</span>`}
      </li>`;
    })}
    ${sorted.length > shown.length && html`<li class="quiet">and ${count(sorted.length - shown.length, "more region")}</li>`}
    ${unserved + unservedBefore > 0 && html`<li><span class="sign bad">${LEVELS.bad.sign}</span> no answer
      <span class="share">${change(unservedBefore, unserved)}</span></li>`}
  </ul>`;
}

// Those with the most clients that would move come first.
const CountryTable = memo(({ map, moving, onCountry }) => {
  const moves = ({ country }) => moving.has(country);
  const movedOf = (row) => (moves(row) ? row.weight * moved(moving.get(row.country), row.regions) : -1);
  const rows = [...(map?.countries ?? [])].sort((a, b) => movedOf(b) - movedOf(a) || b.weight - a.weight);
  return html`<div class="table-frame" tabindex="0" role="region" aria-label="Countries and their regions"><table>
    <thead><tr><th scope="col">Country</th><th scope="col" class="number">Clients</th><th scope="col">Regions</th><th><span class="visually-hidden">Explain</span></th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.country} class=${moves(row) ? "moves" : ""}>
      <th scope="row">${countryName(row.country)}</th>
      <td class="number">${percent(row.weight)}</td>
      <td>${moves(row) && `${regionsText(moving.get(row.country))} → `}${regionsText(row.regions)}</td>
      <td>${row.client && onCountry && html`<button class="small" onClick=${() => onCountry(row)}>Explain<span class="visually-hidden"> ${countryName(row.country)}</span></button>`}</td>
    </tr>`)}</tbody>
  </table></div>`;
});
