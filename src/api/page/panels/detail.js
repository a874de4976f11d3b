// An address in detail: its probes, and charts of what happened since the page was opened: how long they took to connect, and of a
// backend its requests.

import { html, useEffect, useRef, useSize } from "../lib.js";
import { LEVELS, foundOf, levelOf } from "../health.js";
import { useStore } from "../store.js";
import { trails } from "../trails.js";
import { clock, milliseconds, since } from "../words.js";
import { Dialog } from "./dialog.js";
import { Sign } from "./rows.js";

const HEIGHT = 180;

export function Detail({ node, onClose }) {
  const at = useStore((state) => state.at);
  const status = useStore((state) => state.status);
  const address = find(status, node.trail) ?? node.address;
  const { evidence, rtt_ms: rtt, last_probe_s: last, probes, load } = address;
  return html`<${Dialog} title=${node.title} onClose=${onClose} wide>
    <p class="headline"><${Sign} level=${levelOf(address)} word=${foundOf(address)} sign=${LEVELS[levelOf(address)].sign} />
      <strong>${foundOf(address)}</strong> ${address.since && `for ${since(address.since, at)}, since ${clock(address.since, at)}`}</p>
    <p>${evidence}</p>
    <dl class="facts">
      ${address.probed !== false && html`<div><dt>Connect</dt><dd>${milliseconds(rtt)}</dd></div>
        <div><dt>Last probe</dt><dd>${last === null ? "none yet" : `${Math.round(last)} s ago`}</dd></div>`}
      ${load && html`<div><dt>In flight</dt><dd>${load.requests}</dd></div><div><dt>Connections</dt><dd>${load.connections}</dd></div>
        <div><dt>Requests</dt><dd>${load.total.toLocaleString("en")}</dd></div>
        <div><dt>No response</dt><dd>${load.failures.toLocaleString("en")}</dd></div>
        <div><dt>Server errors</dt><dd>${load.server_errors.toLocaleString("en")}</dd></div>`}
    </dl>
    ${load && html`<${History} trail=${node.trail} at=${at} of=${REQUESTS} />`}
    ${address.probed !== false && html`<${History} trail=${node.trail} at=${at} of=${CONNECTS} />`}
    ${probes.length > 0 && html`<table class="probes"><thead><tr><th scope="col">Probe</th><th scope="col">Verdict</th><th scope="col">Evidence</th></tr></thead>
      <tbody>${probes.map((probe) => html`<tr><th scope="row">${probe.name}</th><td>${probe.verdict}</td><td>${probe.evidence}</td></tr>`)}</tbody></table>`}
  <//>`;
}

function find({ regions, pools }, trail) {
  const [tier, owner, name] = trail.split("/");
  const owners = tier === "region" ? regions.find((it) => it.name === owner)?.endpoints : pools.find((it) => it.name === owner)?.backends;
  const addresses = owners?.find((it) => it.name === name)?.addresses ?? [];
  return addresses.find(({ address }) => trail.endsWith(`/${address}`));
}

// What a chart shows: `data` is made of the samples of an address, `scales` and `series` are uPlot's.
const CONNECTS = {
  label: "Time to connect since the page was opened",
  unit: " ms",
  data: ({ times, rtt, failures }) => [times, known(rtt), failures.map((count) => (count > 0 ? count : null))],
  scales: { main: { range: (_, least, most) => [0, (most ?? 1) * 1.15] }, failures: { range: (_, least, most) => [0, Math.max(most ?? 0, 10)] } },
  series: ({ bad, accent }) => [
    { label: "connect, ms", scale: "main", stroke: accent, width: 1.5, points: { show: false }, value: (_, it) => it?.toFixed(2) ?? "–" },
    { label: "failures in a row", scale: "failures", stroke: bad, width: 0, points: { show: true, size: 6, fill: bad }, value: (_, it) => it ?? "–" },
  ],
};

const REQUESTS = {
  label: "Requests and failed requests per second since the page was opened",
  unit: "/s",
  data: ({ times, requests, errors }) => [times, known(requests), known(errors)],
  scales: { main: { range: (_, least, most) => [0, Math.max(most ?? 0, 1) * 1.15] } },
  series: ({ bad, accent }) => [
    { label: "requests/s", scale: "main", stroke: accent, width: 1.5, points: { show: false }, value: (_, it) => it?.toFixed(1) ?? "–" },
    { label: "failed/s", scale: "main", stroke: bad, fill: bad, width: 1.5, dash: [4, 2], points: { show: false }, value: (_, it) => it?.toFixed(1) ?? "–" },
  ],
};

const known = (values) => values.map((value) => (Number.isNaN(value) ? null : value));

function History({ trail, at, of }) {
  const frame = useRef(null);
  const chart = useRef(null);
  const { width } = useSize(frame);
  useEffect(() => {
    let isGone = false;
    import("../vendor/uplot.js").then(({ default: UPlot }) => {
      // What an effect leaves is cleared a while after its element is gone.
      if (isGone || !frame.current || width === 0) return;
      chart.current = new UPlot(options(of, width, getComputedStyle(frame.current)), of.data(trails.of(trail)), frame.current);
    });
    return () => {
      isGone = true;
      chart.current?.destroy();
      chart.current = null;
    };
  }, [width]);
  useEffect(() => chart.current?.setData(of.data(trails.of(trail))), [at]);
  return html`<div class="history" ref=${frame} role="img" aria-label=${of.label}></div>`;
}

function options({ unit, scales, series }, width, style) {
  const colour = (name) => style.getPropertyValue(name).trim();
  const [ink, line, bad, accent] = ["--plot-ink", "--plot-line", "--plot-bad", "--plot-accent"].map(colour);
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return {
    width, height: HEIGHT, scales,
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000, tick * 1000)), space: 80 },
      { ...axis, scale: "main", values: (_, ticks) => ticks.map((tick) => `${tick}${unit}`), size: 64 },
    ],
    series: [{ label: "time", value: (_, time) => (time ? clock(time * 1000, time * 1000) : "–") }, ...series({ bad, accent })],
  };
}
