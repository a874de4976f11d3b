// Who asks: the countries of the service that is shown, and the networks that ask the most for anything.

import { html, memo, useEffect, useState } from "../lib.js";
import { Problem, node } from "../node.js";
import { Swatch, indices } from "../palette.js";
import { useStore } from "../store.js";
import { count, countryName, percent, shortName } from "../words.js";

// Between two requests.
const PAUSE = 5000;

const MOST = { countries: 40, networks: 20 };

export function Traffic() {
  const service = useStore((state) => state.service);
  const regions = useStore((state) => state.status?.regions);
  const { traffic, problem } = useTraffic(service);
  if (!traffic) return html`<div class="traffic"><p class="quiet">${problem ?? "Asking who asks …"}</p></div>`;
  const { total, client_subnet: subnets, window_s: seconds, services, networks } = traffic;
  const shown = services.find((it) => it.service === service);
  const share = total.answers > 0 ? `, ${percent(subnets.answers / total.answers)} of them for client subnets (ECS)` : "";
  return html`<div class="traffic" tabindex="0" role="region" aria-label="Who asks">
    <p class="total">${rate(total)} answers per second in the last ${Math.round(seconds)} s; ${total.answers.toLocaleString("en")} in all${share}</p>
    ${problem && html`<p class="note">This is not up to date: ${problem}</p>`}
    <h3>Clients of ${shortName(service ?? "")}</h3>
    ${shown ? html`<${Countries} shown=${shown} numbers=${indices(regions ?? [])} />` : html`<p class="quiet">Nobody has asked for it.</p>`}
    <h3>Networks that ask the most</h3>
    ${networks.length > 0 ? html`<${Networks} networks=${networks} />` : html`<p class="quiet">Nobody has asked for anything.</p>`}
  </div>`;
}

// The traffic of a service, asked for again and again while it is shown.
function useTraffic(service) {
  const [seen, setSeen] = useState({});
  useEffect(() => {
    const gone = new AbortController();
    let timer;
    const ask = async () => {
      try {
        const traffic = await node.traffic(service, gone.signal);
        setSeen({ service, traffic });
      } catch (error) {
        if (gone.signal.aborted) return;
        if (!(error instanceof Problem) && error.name !== "TimeoutError") throw error;
        setSeen((last) => ({ ...last, problem: error.message }));
      }
      if (!gone.signal.aborted) timer = setTimeout(ask, PAUSE);
    };
    ask();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, [service]);
  return seen.service === service || seen.problem ? seen : {};
}

const Countries = memo(({ shown, numbers }) => {
  const of = ({ region, countries, other }) => [
    ...countries.map((it) => ({ ...it, region, name: countryName(it.country) })),
    ...(other.answers > 0 ? [{ ...other, region, country: "", name: "Others" }] : []),
  ];
  const rows = shown.regions.flatMap(of).sort((a, b) => b.per_second - a.per_second || b.answers - a.answers);
  return html`<table>
    <thead><tr><th scope="col">Country</th><th scope="col">Region</th><th scope="col" class="number">Per second</th><th scope="col" class="number">Answers</th></tr></thead>
    <tbody>${rows.slice(0, MOST.countries).map((row) => html`<tr key=${`${row.country}/${row.region}`}>
      <th scope="row">${row.name}</th>
      <td>${row.region === null ? "none" : html`<${Swatch} index=${numbers.get(row.region) ?? 0} /> ${row.region}`}</td>
      <td class="number">${rate(row)}</td><td class="number">${row.answers.toLocaleString("en")}</td>
    </tr>`)}</tbody>
  </table>
  ${rows.length > MOST.countries && html`<p class="quiet">and ${count(rows.length - MOST.countries, "more row")}</p>`}`;
});

const Networks = memo(({ networks }) => html`<table>
  <thead><tr><th scope="col">Network</th><th scope="col">Is</th><th scope="col" class="number">Per second</th><th scope="col" class="number">Answers</th></tr></thead>
  <tbody>${networks.slice(0, MOST.networks).map(({ network, client_subnet: isSubnet, error, ...all }) => html`<tr key=${`${network}/${isSubnet}`}>
    <th scope="row">${network}</th><td>${isSubnet ? "client subnet" : "resolver"}</td>
    <td class="number">${rate(all)}</td>
    <td class="number">${all.answers.toLocaleString("en")}${error > 0 ? ` to ${(all.answers + error).toLocaleString("en")}` : ""}</td>
  </tr>`)}</tbody>
</table>`);

// With a decimal where the number is small.
function rate({ per_second: number }) {
  if (number > 0 && number < 0.05) return "<0.1";
  return number < 9.95 ? number.toFixed(1).replace(/\.0$/, "") : Math.round(number).toLocaleString("en");
}
